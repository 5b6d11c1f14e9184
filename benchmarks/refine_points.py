"""How good ``diff3r refine --points`` is after so many CPU seconds: held-out scores, Gaussians, memory.

    python -m benchmarks.refine_points COLMAP --seconds 20,60,120
    python -m benchmarks.refine_points COLMAP --seconds 60,120 --off --groups poses,exposure

CPU seconds are those of the whole process without its start, reading and scoring: on a machine that other work shares
they say more than a clock does. Every 8th image is held out, as by default; the scores are of the scene that would be
written if the run ended there.

``--off`` turns every context camera by half a degree and moves it by half a percent of the cameras' spread, each in a
direction of its own, and changes exposures by a tenth on the mean. ``--groups`` moves them again. Such scores are of
held-out views that are fitted to the scene first, each by its pose and exposure; ``--fit-scores`` does it without.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does

import torch
from torch import Tensor

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.coordinates.poses import PoseChart
from diff3r_plugin.io import PosedImages
from diff3r_plugin.refine.checkpoint import Checkpoint
from diff3r_plugin.refine.inputs import StoredImages, read_inputs
from diff3r_plugin.refine.refinement import Refinement
from diff3r_plugin.refine.scoring import mean_scores
from diff3r_plugin.refine.settings import RefineSettings
from diff3r_plugin.refine.sources import camera_centers
from diff3r_plugin.views import Views

OFF_DEGREES, OFF_SHARE, OFF_EXPOSURE = 0.5, 0.005, 0.1


def off(posed: PosedImages) -> PosedImages:
    """The images with each camera turned by OFF_DEGREES and moved by OFF_SHARE of the cameras' mean distance."""
    generator = torch.Generator().manual_seed(1)
    poses = posed.world_to_camera.clone()
    centers = camera_centers(poses)
    spread = (centers - centers.mean(0)).norm(dim=-1).mean()

    def directions() -> Tensor:
        drawn = torch.randn(len(poses), 3, generator=generator, dtype=torch.float64)
        return drawn / drawn.norm(dim=-1, keepdim=True)

    turns = torch.cat([torch.zeros(len(poses), 3), math.radians(OFF_DEGREES) * directions()], -1)
    turned = PoseChart(poses[None]).decode(turns[None].double())[0]
    moved = camera_centers(poses) + OFF_SHARE * spread * directions()
    turned[:, :3, 3] = -(turned[:, :3, :3] @ moved[..., None])[..., 0]
    return replace(posed, world_to_camera=turned)


class OtherExposures(StoredImages):
    """Images brighter or darker by a tenth on the mean, each by itself; what exceeds one is cut, as in a camera."""

    def load(self, numbers: Sequence[int]) -> tuple[Views, Tensor | None]:
        views, weights = super().load(numbers)
        gains = [
            1 + OFF_EXPOSURE * float(torch.randn((), generator=torch.Generator().manual_seed(1_000 + n)).clamp(-2, 2))
            for n in numbers
        ]
        images = views.given_images * torch.tensor(gains)[None, :, None, None, None]
        return views.replace(images=images.clamp(0, 1)), weights


class OutOfTime(Exception):
    """The last of the marks is behind us."""


class Marks:
    """Scores at certain CPU seconds; what scoring takes is not counted.

    Args:
        settings: Of the refinement.
        seconds: When, rising.
        disturbed: Whether the context cameras and exposures are put off.
        fit_scores: Whether held-out views are fitted to the scene before it is scored.
    """

    def __init__(self, settings: RefineSettings, seconds: Sequence[float], disturbed: bool, fit_scores: bool) -> None:
        self._settings, self._left = settings, list(seconds)
        self._inputs = inputs = read_inputs(settings)
        if disturbed:
            context: StoredImages = OtherExposures(off(inputs.context), inputs, settings)
        else:
            context = StoredImages(inputs.context, inputs, settings)
        self._held_out = StoredImages(inputs.held_out, inputs, settings, cache_bytes=0)
        self._refinement = Refinement.of(settings, inputs.scene, context, from_points=True)
        groups = tuple(dict.fromkeys((*settings.tto.groups, "poses", "exposure")))
        fitting = replace(settings, tto=replace(settings.tto, groups=groups))
        self._judge = replace(self._refinement, settings=fitting) if fit_scores else self._refinement
        self._began = time.process_time()

    def run(self) -> None:
        """Refine until the last mark, or until it ends by itself."""
        settings, inputs = self._settings, self._inputs
        schedule = self._refinement.schedule
        height, width = inputs.size
        print(
            f"{inputs.scene.num_gaussians} points, at most {schedule.gaussians} Gaussians, {len(schedule.fitted)} "
            f"images of {width} x {height}, {len(schedule.validation)} for validation, {len(inputs.held_out)} held "
            f"out; seed {settings.seed}, {torch.get_num_threads()} threads"
        )
        print("| CPU s | round | Gaussians | PSNR, dB | SSIM | last round's PSNR, dB | peak MiB |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        self._began = time.process_time()
        try:
            state = self._refinement.run(Checkpoint(inputs.scene, []), self._after)
            self._tell(state, time.process_time() - self._began)
            print("ended by itself")
        except OutOfTime:
            pass

    def _after(self, state: Checkpoint) -> None:
        spent = time.process_time() - self._began
        if spent < self._left[0]:
            return
        while self._left and spent >= self._left[0]:
            self._left.pop(0)
        self._tell(state, spent)
        if not self._left:
            raise OutOfTime
        self._began = time.process_time() - spent

    def _tell(self, state: Checkpoint, spent: float) -> None:
        written = state.result
        scores = [mean_scores(self._judge.score(g, self._held_out)) for g in (written, state.scene)]
        assert scores[0] is not None and scores[1] is not None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"| {spent:.0f} | {len(state.rounds)} | {written.num_gaussians} | {scores[0]['psnr']:.2f} | "
            f"{scores[0]['ssim']:.3f} | {scores[1]['psnr']:.2f} | {peak} |",
            flush=True,
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cameras", help="a COLMAP model with points")
    parser.add_argument("--seconds", default="20,60,120", help="CPU seconds after which to score (default: 20,60,120)")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--max-gaussians", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", default="", metavar="A,B", help="groups of views that move: poses,exposure")
    parser.add_argument("--off", action="store_true", help="put context cameras and exposures off")
    parser.add_argument("--fit-scores", action="store_true", help="fit held-out views to the scene before scoring")
    given = parser.parse_args()
    groups = (*TTOConfig().groups, *(name for name in given.groups.split(",") if name))
    settings = RefineSettings(
        None,
        given.cameras,
        Path("unused"),
        downscale=given.downscale,
        max_gaussians=given.max_gaussians,
        seed=given.seed,
        tto=TTOConfig(groups=groups),
    )
    seconds = [float(word) for word in given.seconds.split(",")]
    Marks(settings, seconds, given.off, given.fit_scores or given.off).run()


if __name__ == "__main__":
    main()
