"""``diff3r report``: one HTML page about a host's test with the plugin."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from diff3r_plugin.errors import Diff3rError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="make one self-contained HTML page of a test: scores, renderings, maps, the scenes in 3D",
        description="Reads what a host's test with the plugin wrote (diff3r_scores.json, and the images and scenes of "
        "diff3r.save_pictures=true and diff3r.save_scenes=true) and writes one page that needs no network.",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the test, or one above it")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="the page (default: diff3r_report.html by the scores)")
    parser.add_argument("--scenes", type=int, default=12, metavar="N",
                        help="scenes shown with images, spread over the gains (default 12)")  # fmt: skip
    parser.add_argument("--views", type=int, default=3, metavar="N", help="target views shown of each (default 3)")
    parser.add_argument("--interactive", type=int, default=4, metavar="N",
                        help="scenes that can be seen in 3D (default 4); each adds megabytes to the page")  # fmt: skip
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.set_defaults(run=main)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    try:
        from diff3r_plugin.report.run_page import write_run_page
    except ModuleNotFoundError as error:
        raise Diff3rError(f"{error}; it needs more: pip install 'diff3r-plugin[report]'") from error
    page = write_run_page(args.run_folder, args.out, scenes=args.scenes, views=args.views, interactive=args.interactive)
    print(page)
    if args.open:
        webbrowser.open(page.resolve().as_uri())
    return 0
