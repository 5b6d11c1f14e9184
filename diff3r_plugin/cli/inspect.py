"""``diff3r inspect``: what was read of a scene and its images, and the first views drawn beside the images."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from diff3r_plugin.cli._file_warnings import said_as
from diff3r_plugin.cli._settings_options import named_fields
from diff3r_plugin.errors import UsageError

EPILOG = """examples:
  diff3r inspect point_cloud.ply --cameras garden
  diff3r inspect splat.ply --cameras transforms.json --world outputs/run/dataparser_transforms.json
  diff3r inspect --points --cameras garden --undistort

OUT gets one picture a view: image, rendering and their difference, side by side. The options that say which
files are read and how are those of 'diff3r refine'.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "inspect",
        help="draw a scene beside its images and say what was read",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = partial(parser.add_argument, default=argparse.SUPPRESS)  # those of the settings
    add("scene", nargs="?", default=None, type=Path, metavar="SCENE", help="Gaussians: .ply or .npz")
    add("--points", nargs="?", const=True, default=None, metavar="FILE",
        help="points instead: of a PLY file or COLMAP model, by default those that the cameras come with")  # fmt: skip
    add("--cameras", required=True, metavar="PATH",
        help="COLMAP folder, transforms.json, Blender's folder, or chunk FILE.torch[:KEY]")  # fmt: skip
    add("--images", type=Path, metavar="DIR", help="folder of the images, if not beside the cameras")
    add("--world", metavar="WHOSE",
        help="file, original, or the path of a dataparser_transforms.json (default: auto)")  # fmt: skip
    add("--undistort", action="store_true", help="undistort images of lenses that distort as they are loaded")
    add("--frames", help="images to use: FIRST:END[:STEP], or numbers or names (default: all)")
    add("--hold-out", default="none", help="as in 'diff3r refine' (default: none)")
    add("--downscale", type=int, metavar="K", help="make the images K times smaller")
    add("--near", type=float, help="nothing nearer is drawn, world units (default: 0.01)")
    add("--far", type=float, help="nothing farther is drawn, world units")
    add("--background", metavar="R,G,B", help="color behind all Gaussians, 0 to 1 (default: 0,0,0)")
    add("--views", type=int, default=4, metavar="N", help="images to draw (default: 4)")
    add("--out", type=Path, default=Path("inspected"), metavar="DIR", help="folder for pictures (default: inspected)")
    parser.set_defaults(run=main)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    from diff3r_plugin.refine import RefineSettings
    from diff3r_plugin.refine.inputs import read_inputs
    from diff3r_plugin.refine.inspection import inspect

    if (args.scene is None) != bool(args.points):
        raise UsageError("Give a SCENE (.ply or .npz), or --points [FILE] for points, and not both.")
    if args.views < 1:
        raise UsageError(f"--views must be at least 1, got {args.views}.")
    values = named_fields(args, RefineSettings)
    values["points"] = args.points if isinstance(args.points, str) else None
    if "background" in values:
        values["background"] = tuple(float(part) for part in args.background.split(","))
    settings = RefineSettings(**values)
    with said_as("diff3r inspect"):
        found = inspect(read_inputs(settings), settings, args.views)
    print("\n".join(found.lines))
    print(f"wrote {found.pictures[0]} to {found.pictures[-1].name}: image, rendering, difference")
    return 0
