"""What a refinement says while it runs: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, TextIO

from diff3r_plugin.refine.inputs import Inputs
from diff3r_plugin.refine.plan import Plan
from diff3r_plugin.refine.rounds import MOST_ROUNDS


class Progress:
    """Writes to a stream.

    Args:
        stream: Where; None for nowhere.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self._bar: Any = None
        self._rounds, self._open = 0, False

    def begin(self, inputs: Inputs, plan: Plan, done: int) -> None:
        """Before the first round."""
        height, width = inputs.size
        self._open = plan.schedule.rounds == MOST_ROUNDS
        self._rounds = plan.schedule.rounds
        growing = plan.schedule.gaussians > inputs.scene.num_gaussians
        validation = len(plan.schedule.validation)
        self._say(
            f"{inputs.scene.num_gaussians} Gaussians (degree {inputs.scene.sh_degree}), {len(inputs.context)} context "
            f"and {len(inputs.held_out)} held-out images of {width} x {height}; "
            + (f"rounds until {validation} views gain no more" if self._open else f"{self._rounds} rounds")
            + f", {plan.views_per_round} views each"
            + (f", growing to at most {plan.schedule.gaussians} Gaussians" if growing else "")
            + f"; about {plan.needed / (1 << 30):.2f} GiB"
            + (f"; {done} rounds are done already" if done else "")
        )
        if self.stream is not None and self.stream.isatty() and importlib.util.find_spec("tqdm"):
            from tqdm import tqdm

            total = None if self._open else self._rounds
            self._bar = tqdm(total=total, initial=min(done, self._rounds), unit="round", file=self.stream)

    def round(self, entry: Mapping[str, Any]) -> None:
        """After each."""
        energies = f"energy {entry['energy_before']:.4g} -> {entry['energy_after']:.4g}"
        if entry["validation_psnr"] is not None:
            energies += f"  {entry['gaussians']} Gaussians  validation {entry['validation_psnr']:.2f} dB"
        if self._bar is not None:
            self._bar.set_postfix_str(energies, refresh=False)
            self._bar.update()
        else:
            of = "" if self._open else f"/{self._rounds}"
            self._say(f"round {entry['round']}{of}  {energies}  {entry['seconds']:.1f} s")

    def close(self) -> None:
        """After the last round, or where an error ended them: what follows begins a line of its own."""
        if self._bar is not None:
            self._bar.close()

    def end(self, metrics: Mapping[str, Any]) -> None:
        """When all is written."""
        for kind in ("context", "held_out"):
            before, after = metrics["before"][kind], metrics["after"][kind]
            if before is not None:
                self._say(
                    f"{kind.replace('_', '-'):9} PSNR {before['psnr']:6.2f} -> {after['psnr']:6.2f} dB   "
                    f"SSIM {before['ssim']:.3f} -> {after['ssim']:.3f}"
                )
        kept = [entry["round"] for entry in metrics["rounds"] if entry["outcome"] != "refined"]
        if kept:
            self._say(
                f"{len(kept)} of {len(metrics['rounds'])} rounds changed nothing (see metrics.json): larger --weights, "
                "a larger --damping or more views in a round make steps smaller."
            )

    def _say(self, line: str) -> None:
        if self.stream is not None:
            print(line, file=self.stream, flush=True)
