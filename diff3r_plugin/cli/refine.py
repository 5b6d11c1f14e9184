"""``diff3r refine``: refine one's own scene on posed images, without a host."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from diff3r_plugin.cli._file_warnings import said_as
from diff3r_plugin.cli._settings_options import named_fields
from diff3r_plugin.errors import Diff3rError, UsageError

EPILOG = """examples:
  diff3r refine point_cloud.ply --cameras garden --downscale 4 --out refined      # a COLMAP folder
  diff3r refine --points --cameras garden --downscale 4 --out refined             # from its points
  diff3r refine scene.ply --cameras 000000.torch:KEY --frames 10:20 --out refined # a RealEstate10K chunk

OUT gets refined.ply, refined.npz, metrics.json (scores before and after, all settings), images/ and a checkpoint after
each round; after an interruption, the same command with --resume continues it and ends with the same scores.
"""

if TYPE_CHECKING:
    from diff3r_plugin.refine import RefineSettings


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "refine",
        help="refine your own Gaussians on posed images",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser.add_argument)
    parser.set_defaults(run=main)


def add_options(add: Callable[..., object]) -> None:
    """The options. What is not given stays out of the arguments: defaults are those of the settings."""
    add = partial(add, default=argparse.SUPPRESS)
    add("scene", nargs="?", default=None, type=Path, metavar="SCENE",
        help="Gaussians: .ply (Inria, gsplat, nerfstudio) or .npz")  # fmt: skip
    add("--points", nargs="?", const=True, default=None, metavar="FILE",
        help="start from points instead: of a PLY file or COLMAP model, by default of the cameras' own")  # fmt: skip
    add("--cameras", required=True, metavar="PATH",
        help="COLMAP folder, transforms.json, or chunk FILE.torch[:KEY]")  # fmt: skip
    add("--images", type=Path, metavar="DIR", help="folder of the images, if not beside the cameras")
    add("--world", metavar="WHOSE",
        help="the scene's world: file, original (undo a transforms.json's applied_transform) or the path of "
        "nerfstudio's dataparser_transforms.json (default: that where it lies beside SCENE, else file)")  # fmt: skip
    add("--undistort", action="store_true", help="undistort images of lenses that distort as they are loaded")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--frames", help="images to use: FIRST:END[:STEP], or numbers or names (default: all)")
    add("--hold-out",
        help="images to judge by: every:K, file (its test images), none, numbers or names (default: file where it "
        "names some, else every:8)")  # fmt: skip
    add("--downscale", type=int, metavar="K", help="make the images K times smaller")
    add("--groups", metavar="A,B,..",
        help="optimized groups (default: means,covariance,opacity,sh_dc,sh_rest; of views: "
        "poses,exposure)")  # fmt: skip
    add("--weights", metavar="GROUP=W,..", help="proximal weight of all groups or of some (default: 0.1)")
    add("--views-per-round", type=int, metavar="N", help="views that a round sees at most (default: 8)")
    add("--rounds", type=int, metavar="N",
        help="default: 1 where a round sees all views; else, and from points, until validation ends it")  # fmt: skip
    add("--steps", type=int, metavar="N", help="Gauss-Newton steps of a round (default: 4 in a single round, else 2)")
    add("--max-gaussians", type=int, metavar="N",
        help="grow to at most so many (default: from points, by what the images can tell; else not)")  # fmt: skip
    add("--validation", type=int, metavar="N",
        help="context views that tell when to end and which round was best (default: a tenth)")  # fmt: skip
    add("--robust", type=float, metavar="R", help="residual, in [0, 1], from which pixels count less (default: never)")
    add("--damping", type=float, help="first Levenberg-Marquardt damping of a round (default: 1)")
    add("--sh-degree", type=int, metavar="D", help="with --points: degree of the harmonics (default: 1)")
    add("--near", type=float, help="nothing nearer is drawn, world units (default: 0.01)")
    add("--far", type=float, help="nothing farther is drawn, world units")
    add("--background", metavar="R,G,B", help="color behind all Gaussians, 0 to 1 (default: 0,0,0)")
    add("--seed", type=int, help="of the order of the views")
    add("--memory", dest="memory_gib", type=float, metavar="GIB",
        help="memory that may be used (default: 80 %% of what is free)")  # fmt: skip
    add("--pictures", type=int, metavar="N", help="views to write renderings of (default: 4)")
    add("--backend", help="renderer: auto, native, gsplat or torch")
    add("--device", help="cpu or cuda (default: cpu)")
    add("--resume", action="store_true", default=False, help="resume the interrupted run in OUT")


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    from diff3r_plugin.refine import refine
    from diff3r_plugin.refine.progress import Progress

    settings = settings_of(args)
    try:
        with said_as("diff3r refine"):
            refine(settings, resume=args.resume, progress=Progress(sys.stderr))
    except OSError as error:
        if isinstance(error, Diff3rError):
            raise
        raise Diff3rError(f"{error}; what is written so far is kept, --resume continues it.") from error
    except KeyboardInterrupt:
        print("diff3r refine: stopped; the same command with --resume continues it.", file=sys.stderr)
        return 130
    print(f"wrote {args.out / 'refined.ply'} and {args.out / 'metrics.json'}; a page of it: diff3r report {args.out}")
    return 0


def settings_of(args: argparse.Namespace) -> RefineSettings:
    """The settings that the command line names.

    Raises:
        UsageError: for arguments that do not fit together or cannot be read.
        ValueError: for a value out of its range.
    """
    from diff3r_plugin.config import TTOConfig
    from diff3r_plugin.refine import RefineSettings

    if (args.scene is None) != bool(args.points):
        raise UsageError("Give a SCENE (.ply or .npz), or --points [FILE] to start from points, and not both.")
    solver, values = named_fields(args, TTOConfig), named_fields(args, RefineSettings)
    if groups := solver.pop("groups", ""):
        solver["groups"] = tuple(groups.split(","))
    tto = TTOConfig(**solver)
    values["points"] = args.points if isinstance(args.points, str) else None
    try:
        if "background" in values:
            values["background"] = tuple(float(part) for part in args.background.split(","))
        if "weights" in values:
            values["weights"] = _weights(args.weights, tto.groups)
    except ValueError as error:
        raise UsageError(f"{error}: --background is R,G,B and --weights is W or GROUP=W,GROUP=W.") from error
    return RefineSettings(**values, tto=tto)


def _weights(text: str | None, groups: tuple[str, ...]) -> dict[str, float]:
    if not text:
        return {}
    if "=" not in text:
        return dict.fromkeys(groups, float(text))
    pairs = [part.partition("=") for part in text.split(",")]
    return {group.strip(): float(value) for group, _, value in pairs}
