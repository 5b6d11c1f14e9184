"""How good ``diff3r refine --points`` is after so many CPU seconds: held-out scores, Gaussians, memory.

    python -m benchmarks.refine_points COLMAP --seconds 20,60,120

CPU seconds are those of the whole process without its start, reading and scoring: on a machine that other work shares
they say more than a clock does. Every 8th image is held out, as by default; the scores are of the scene that would be
written if the run ended there.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does

import torch

from diff3r_plugin.refine.checkpoint import Checkpoint
from diff3r_plugin.refine.inputs import StoredImages, read_inputs
from diff3r_plugin.refine.refinement import Refinement
from diff3r_plugin.refine.scoring import mean_scores
from diff3r_plugin.refine.settings import RefineSettings


class OutOfTime(Exception):
    """The last of the marks is behind us."""


class Marks:
    """Scores at certain CPU seconds; what scoring takes is not counted.

    Args:
        settings: Of the refinement.
        seconds: When, rising.
    """

    def __init__(self, settings: RefineSettings, seconds: Sequence[float]) -> None:
        self._settings, self._left = settings, list(seconds)
        self._inputs = inputs = read_inputs(settings)
        context = StoredImages(inputs.context, inputs, settings)
        self._held_out = StoredImages(inputs.held_out, inputs, settings, cache_bytes=0)
        self._refinement = Refinement.of(settings, inputs.scene, context, from_points=True)
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
        scores = [mean_scores(self._refinement.score(g, self._held_out)) for g in (written, state.scene)]
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
    given = parser.parse_args()
    settings = RefineSettings(
        None,
        given.cameras,
        Path("unused"),
        downscale=given.downscale,
        max_gaussians=given.max_gaussians,
        seed=given.seed,
    )
    Marks(settings, [float(word) for word in given.seconds.split(",")]).run()


if __name__ == "__main__":
    main()
