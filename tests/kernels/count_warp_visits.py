"""How many pairs of a warp and a splat J v looks at, by emulation: ``python tests/kernels/count_warp_visits.py``.

Of pixel-aligned Gaussians and one 256 x 256 image (two context images of 256² or 512² pixels), next to all pairs of the
tile lists: those in which every warp of a tile looks at every splat of its list. Takes some minutes.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import gsplat_on_cpu  # noqa: E402
import torch  # noqa: E402

from benchmarks.scenes import pixel_aligned_scene  # noqa: E402

WARPS = 8


def main() -> None:
    for size in (256, 512):
        scene, views = pixel_aligned_scene(size, image_size=256, degree=0)
        lin = gsplat_on_cpu.BACKENDS["kernels_on_cpu"].linearize(scene, views)
        gsplat_on_cpu.warp_visits()
        lin.jvp(scene.map(torch.randn_like))
        visits, listed = gsplat_on_cpu.warp_visits(), WARPS * lin.scene.flatten_ids.numel()
        count = scene.num_gaussians
        print(f"{count} Gaussians: {visits} of {listed} pairs, {listed / visits:.1f} times fewer", flush=True)


if __name__ == "__main__":
    main()
