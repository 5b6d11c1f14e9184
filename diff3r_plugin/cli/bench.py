"""``diff3r bench``: how fast this machine is, at the user's sizes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diff3r_plugin.bench import BenchResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="how fast this machine refines scenes of your size",
        description="Times rendering, its derivatives and a whole refinement of a synthetic scene of your size, taking "
        "turns for about a minute; says what a scene and a training step will cost, and the largest scene that fits.",
    )
    add = parser.add_argument
    add("--gaussians", type=int, metavar="N", help="Gaussians of a scene (default: one a pixel of every view)")
    add("--size", default="256", metavar="S or HxW", help="of the images, pixels (default: 256)")
    add("--views", type=int, default=2, metavar="V", help="context views (default: 2)")
    add("--degree", type=int, default=1, metavar="D", help="of the spherical harmonics (default: 1)")
    add("--steps", type=int, default=4, metavar="N", help="Gauss-Newton steps of a refinement (default: 4)")
    add("--seconds", type=float, default=40.0, metavar="S", help="how long to measure (default: 40)")
    add("--backend", default="auto", help="auto, native, gsplat or torch")
    add("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    add("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.set_defaults(run=main)


def main(args: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    import torch

    from diff3r_plugin.bench import BenchSettings, bench
    from diff3r_plugin.strict_json import write_json

    def turn(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} turns", end="", file=sys.stderr, flush=True)

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    settings = BenchSettings(
        args.gaussians, _size(args.size), args.views, args.degree, args.steps, args.seconds, args.backend, device
    )
    print("measuring; at the very first use kernels are compiled, which takes longer", file=sys.stderr)
    result = bench(settings, turn)
    if args.json is not None:
        write_json(args.json, result.record())
    print("\n".join(report(result)))
    return 0


def report(result: BenchResult) -> list[str]:
    """The lines that are printed."""
    from diff3r_plugin.bench.measurement import REFINE, TRAIN
    from diff3r_plugin.memory import USABLE

    settings, machine = result.settings, result.machine
    height, width = settings.size
    lines = [
        f"{settings.count} Gaussians (degree {settings.degree}), {settings.views} views of {width} x {height}",
        f"backend {machine['backend']} on {machine['device']}, {machine['threads']} threads of {machine['cores']} cores"
        + (f", load {machine['load']:.1f}" if machine["load"] is not None else "")
        + f", PyTorch {machine['torch']}",
        "",
        f"{'':26}{'ms':>10}  {'renderings':>10}   (medians of {result.turns} turns)",
    ]
    lines += [
        f"{name:26}{1000 * seconds:10.1f}  {result.renderings[name]:10.2f}" for name, seconds in result.seconds.items()
    ]
    lines += [
        "",
        f"a scene takes {result.seconds[REFINE]:.2f} s to refine ({settings.steps} steps, {result.pcg_products} "
        "Gauss-Newton products)",
        f"a training step takes {result.seconds[TRAIN]:.2f} s a scene, beside the host's own network and losses",
        f"memory: about {result.memory_bytes / 1e9:.2f} GB at the peak"
        + (
            f"; {result.free_bytes / 1e9:.1f} GB are free, of which {USABLE:.0%} hold scenes of {result.largest} "
            "Gaussians on such views"
            if result.free_bytes is not None
            else ""
        ),
    ]
    return lines


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if not all(part.isdigit() for part in parts) or len(parts) > 2:
        raise ValueError(f"--size {text}: give S or HxW, as 256 or 480x640.")
    return int(parts[0]), int(parts[-1])
