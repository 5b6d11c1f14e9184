"""``diff3r reconstruct``: from photographs without cameras to a scene and a page that shows it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from diff3r_plugin.cli._file_warnings import said_as

EPILOG = """examples:
  diff3r reconstruct photos --out garden
  diff3r reconstruct frames --out street --matching sequential --size 960

OUT gets undistorted/ (images and cameras, a COLMAP folder), refined/ (refined.ply and the rest of 'diff3r refine') and
report.html. After an interruption the same command resumes it.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="make a scene and a page of it from a folder of photographs",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("photos", type=Path, metavar="PHOTOS", help="folder of photographs")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--matching", choices=("auto", "exhaustive", "sequential"), default="auto",
        help="pairs that are compared: all, or neighbors by name, as of a video (default: all up to 150)")  # fmt: skip
    add("--camera-model", default="SIMPLE_RADIAL", metavar="MODEL", help="COLMAP's lens model (default: SIMPLE_RADIAL)")
    add("--several-cameras", action="store_true", help="photographs of one size are of several cameras or zooms")
    add("--sfm-size", type=int, default=1600, metavar="PX", help="longest side for the cameras (default: 1600)")
    add("--size", type=int, default=640, metavar="PX", help="longest side for the refinement (default: 640)")
    add("--rounds", type=int, metavar="N", help="of the refinement (default: until it no longer gains)")
    add("--max-gaussians", type=int, metavar="N", help="to which the scene may grow (default: see 'diff3r refine')")
    add("--hold-out", default="every:8", help="images to judge by: every:K, none, numbers or names (default: every:8)")
    add("--memory", type=float, metavar="GIB", help="memory that may be used (default: 80 %% of what is free)")
    add("--threads", type=int, metavar="N", help="for the cameras (default: all cores)")
    add("--seed", type=int, default=0, help="of the cameras and the refinement")
    add("--no-page", action="store_true", help="make no report.html")
    parser.set_defaults(run=main)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    from diff3r_plugin.reconstruction import ReconstructionSettings, reconstruct
    from diff3r_plugin.refine.progress import Progress

    refinement: dict[str, Any] = {"hold_out": args.hold_out, "rounds": args.rounds, "memory_gib": args.memory}
    refinement["max_gaussians"] = args.max_gaussians
    try:
        settings = ReconstructionSettings(
            args.photos,
            args.out,
            matching=args.matching,
            camera_model=args.camera_model,
            single_camera=not args.several_cameras,
            sfm_size=args.sfm_size,
            size=args.size,
            seed=args.seed,
            threads=args.threads,
            refinement=refinement,
        )
        with said_as("diff3r reconstruct"):
            reconstruct(
                settings, progress=Progress(sys.stderr), say=lambda line: print(line, file=sys.stderr, flush=True)
            )
    except KeyboardInterrupt:
        print("diff3r reconstruct: stopped; the same command resumes it.", file=sys.stderr)
        return 130
    print(f"wrote {args.out / 'refined' / 'refined.ply'}")
    return 0 if args.no_page else _page(args.out)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _page(out: Path) -> int:
    try:
        from diff3r_plugin.report.run_folder import ReportError
        from diff3r_plugin.report.run_page import write_run_page
    except ModuleNotFoundError as error:
        print(f"diff3r reconstruct: no page, {error}: pip install 'diff3r-plugin[report]'", file=sys.stderr)
        return 0
    try:
        print(f"a page of it: {write_run_page(out / 'refined', out / 'report.html')}")
    except (ReportError, OSError) as error:
        print(f"diff3r reconstruct: no page, {error}", file=sys.stderr)
        return 1
    return 0
