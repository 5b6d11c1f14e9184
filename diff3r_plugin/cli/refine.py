"""``diff3r refine``: refine one's own scene on posed images, without a host."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from diff3r_plugin.cli._file_warnings import said_as
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
    add = parser.add_argument
    add("scene", nargs="?", type=Path, metavar="SCENE", help="Gaussians: .ply (Inria, gsplat, nerfstudio) or .npz")
    add("--points", nargs="?", const=True, metavar="FILE",
        help="start from points instead: of a PLY file or COLMAP model, by default of the cameras' own")  # fmt: skip
    add("--cameras", required=True, metavar="PATH",
        help="COLMAP folder, transforms.json, or chunk FILE.torch[:KEY]")  # fmt: skip
    add("--images", type=Path, metavar="DIR", help="folder of the images, if not beside the cameras")
    add("--world", default="auto", metavar="WHOSE",
        help="the scene's world: file, original (undo a transforms.json's applied_transform) or the path of "
        "nerfstudio's dataparser_transforms.json (default: that where it lies beside SCENE, else file)")  # fmt: skip
    add("--undistort", action="store_true", help="undistort images of lenses that distort as they are loaded")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--frames", default="all", help="images to use: FIRST:END[:STEP], or numbers or names (default: all)")
    add("--hold-out", default="auto",
        help="images to judge by: every:K, file (its test images), none, numbers or names (default: file where it "
        "names some, else every:8)")  # fmt: skip
    add("--downscale", type=int, default=1, metavar="K", help="make the images K times smaller")
    add("--groups", metavar="A,B,..",
        help="what moves (default: means,covariance,opacity,sh_dc,sh_rest; of views: poses,exposure)")  # fmt: skip
    add("--weights", metavar="GROUP=W,..", help="proximal weight of all groups or of some (default: 0.1)")
    add("--views-per-round", type=int, default=8, metavar="N", help="views that a round sees at most (default: 8)")
    add("--rounds", type=int, metavar="N",
        help="default: 1 where a round sees all views; else, and from points, until validation ends it")  # fmt: skip
    add("--steps", type=int, metavar="N", help="Gauss-Newton steps of a round (default: 4 in a single round, else 2)")
    add("--max-gaussians", type=int, metavar="N",
        help="grow to at most so many (default: from points, by what the images can tell; else not)")  # fmt: skip
    add("--validation", type=int, metavar="N",
        help="context views that tell when to end and which round was best (default: a tenth)")  # fmt: skip
    add("--robust", type=float, metavar="R", help="residual, in [0, 1], from which pixels count less (default: never)")
    add("--damping", type=float, default=1.0, help="first Levenberg-Marquardt damping of a round (default: 1)")
    add("--sh-degree", type=int, default=1, metavar="D", help="with --points: degree of the harmonics (default: 1)")
    add("--near", type=float, default=0.01, help="nothing nearer is drawn, world units (default: 0.01)")
    add("--far", type=float, default=1e10, help="nothing farther is drawn, world units")
    add("--background", default="0,0,0", metavar="R,G,B", help="color behind all Gaussians, 0 to 1 (default: 0,0,0)")
    add("--seed", type=int, default=0, help="of the order of the views")
    add("--memory", type=float, metavar="GIB", help="memory that may be used (default: 80 %% of what is free)")
    add("--pictures", type=int, default=4, metavar="N", help="views to write renderings of (default: 4)")
    add("--backend", default="auto", help="renderer: auto, native, gsplat or torch")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    add("--resume", action="store_true", help="resume the interrupted run in OUT")
    parser.set_defaults(run=main)


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
    groups = tuple(args.groups.split(",")) if args.groups else TTOConfig().groups
    try:
        background = tuple(float(part) for part in args.background.split(","))
        weights = _weights(args.weights, groups)
    except ValueError as error:
        raise UsageError(f"{error}: --background is R,G,B and --weights is W or GROUP=W,GROUP=W.") from error
    return RefineSettings(
        scene=args.scene,
        cameras=args.cameras,
        out=args.out,
        points=args.points if isinstance(args.points, str) else None,
        images=args.images,
        world=args.world,
        undistort=args.undistort,
        frames=args.frames,
        hold_out=args.hold_out,
        downscale=args.downscale,
        views_per_round=args.views_per_round,
        rounds=args.rounds,
        steps=args.steps,
        max_gaussians=args.max_gaussians,
        validation=args.validation,
        robust=args.robust,
        weights=weights,
        sh_degree=args.sh_degree,
        near=args.near,
        far=args.far,
        background=background,  # type: ignore[arg-type]
        seed=args.seed,
        memory_gib=args.memory,
        device=args.device,
        pictures=args.pictures,
        tto=TTOConfig(groups=groups, damping=args.damping, backend=args.backend),
    )


def _weights(text: str | None, groups: tuple[str, ...]) -> dict[str, float]:
    if not text:
        return {}
    if "=" not in text:
        return dict.fromkeys(groups, float(text))
    pairs = [part.partition("=") for part in text.split(",")]
    return {group.strip(): float(value) for group, _, value in pairs}
