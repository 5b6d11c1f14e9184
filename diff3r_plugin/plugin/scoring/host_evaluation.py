"""What a host's test gives: scores before and after refinement, scene by scene, and what the settings ask to write."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diff3r_plugin.info import Outcome
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.head_training.head_state import HeadState
from diff3r_plugin.plugin.host.host_loop import loop_of
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.plugin.refining.refiner import Refiner
from diff3r_plugin.plugin.scoring import artifacts
from diff3r_plugin.plugin.scoring.calls_of_scene import of_several
from diff3r_plugin.plugin.scoring.comparison import compared
from diff3r_plugin.plugin.scoring.identity import command_line, described_checkpoint, differences, identity_of_test
from diff3r_plugin.plugin.scoring.image_metrics import ImageMetrics
from diff3r_plugin.plugin.scoring.measurements import context_psnr, renderer_agreement, target_renderings
from diff3r_plugin.plugin.scoring.score_lines import ScoreLines
from diff3r_plugin.plugin.scoring.scores import EvaluationRecord
from diff3r_plugin.plugin.scoring.step_sweep import swept
from diff3r_plugin.plugin.scoring.use_check import UseCheck

POOR_AGREEMENT = 40.0
"""dB below which our renderings and the host's do not mean the same scene."""

FALLEN = {str(outcome) for outcome in Outcome if outcome.fell_back}


class HostTest:
    """The record of one test of a host, from its first batch to the scores file.

    Args:
        wrapper: The host's LightningModule.
        context: Settings, adapter and host configuration of this run.
        head: The uncertainty head; the file says whether a checkpoint gave it.
        refiner: Refines scenes again where ``diff3r.eval_steps`` asks for it, and knows whence poses come.

    Attributes:
        subfolder: Within the folder of the scores, where another model of the program is tested on the same batches.
    """

    def __init__(self, wrapper: Any, context: RunContext, head: HeadState, refiner: Refiner) -> None:
        self.wrapper, self.context, self.head, self.refiner = wrapper, context, head, refiner
        self.poses_source = refiner.poses.get("test")
        self.subfolder = ""
        self.lines: ScoreLines | None = None
        self.metrics = ImageMetrics(context.adapter, "off", context.say)
        self.use = UseCheck()
        self._told_of_disagreement = False
        self._calls: dict[str, list[dict[str, Any]]] = {}
        self._seen: Counter[str] = Counter()
        self._recorded: Counter[str] = Counter()

    def begin(self, go_on: bool = True) -> None:
        """Before the first scene of a test: find out whether scores can be written, and what is there already.

        Args:
            go_on: Whether an interrupted test is to be gone on with.

        Raises:
            PluginError: if they cannot.
        """
        if self.lines is not None:
            return
        lines = ScoreLines(self.folder() / self._named("scores", ".jsonl"))
        header = self._header()
        left = len(lines.entries) if go_on and not lines.finished else 0
        others = differences(lines.header or {}, self._identity()) if left else []
        if left and not others:
            lines.go_on()
            self.context.say(
                f"resuming the test that was interrupted: {left} scenes are in {lines.path} and are left out now. "
                "The host's own scores will be those of the others alone, ours those of all."
            )
        else:
            if left:
                self.context.say(
                    f"{lines.path} holds {left} scenes of an interrupted test that differs ({', '.join(others[:5])}): "
                    "starting anew; they are kept in *.previous.jsonl."
                )
            lines.start(header)
        self._seen, self._recorded = Counter(), lines.recorded()
        self.metrics = ImageMetrics(self.context.adapter, self.context.settings.lpips, self.context.say)
        self.use = UseCheck()
        self.lines = lines

    def leaves_out(self, batch: Any) -> bool:
        """Whether an interrupted test has scored all scenes of this batch."""
        if not self._recorded:
            return False
        names = Counter(self.context.adapter.scene_names(batch))
        if not all(self._seen[scene] + count <= self._recorded[scene] for scene, count in names.items()):
            return False
        self._seen += names
        return True

    def add(self, refinement: Refinement, batch: Any, drawn: Sequence[Tensor] = ()) -> dict[str, float]:
        """Score the scenes of one encoder call and write what the settings ask for; returns their mean scores.

        ``drawn``: what the host itself rendered in its step, where that can be told from the call.

        They are recorded at the `end_of_step`, for a host may call its encoder several times for a scene.
        """
        adapter, wrapper, settings = self.context.adapter, self.wrapper, self.context.settings
        names = adapter.scene_names(batch)
        before, after = target_renderings(adapter, wrapper, refinement, batch)
        with torch.no_grad():
            context_rendering = adapter.render_context(wrapper, refinement.before, batch, refinement.call)
        with torch.inference_mode(False), torch.no_grad():
            targets = adapter.target_views(wrapper, batch, refinement.before, refinement.call)
        truth = targets.given_images
        scores = self._scores(truth, before, after, context_psnr(refinement, settings.tto.backend))
        agreement = renderer_agreement(refinement, targets, before, context_rendering, settings.tto.backend)
        self._tell_of_disagreement(float(agreement.min()))
        sweep = swept(self.refiner, refinement, wrapper, batch, truth, self.metrics)
        beside = compared(self.refiner, refinement, wrapper, batch, truth, self.metrics)
        info, poses = refinement.info, refinement.pose_figures()
        own = self.use.add(list(drawn), before, after, truth)
        for index, scene in enumerate(names):
            self._calls.setdefault(scene, []).append(
                {
                    **{side: {name: float(v[index]) for name, v in scores[side].items()} for side in scores},
                    "steps": settings.tto.inner_steps,
                    "seconds": refinement.seconds / len(info.outcomes),
                    "outcome": str(info.outcomes[index]),
                    "energy": info.energy[:, index].tolist(),
                    "stationarity": float(info.stationarity[index]),
                    "accepted_steps": int(info.accepted_steps[index]),
                    "pcg_iterations": int(info.pcg_iterations[index]),
                    "renderer_agreement_psnr": float(agreement[index]),
                    **{name: float(values[index]) for name, values in poses.items()},
                    **({} if own is None else {"host_psnr": float(own[index])}),
                    **({"sweep": sweep[index]} if sweep[index] else {}),
                    **({"compare": beside[index]} if beside[index] else {}),
                },
            )
        folders = [scene if len(self._calls[scene]) == 1 else f"{scene}_{len(self._calls[scene])}" for scene in names]
        artifacts.write(settings, self.folder(), folders, refinement, targets, before, after)
        return {f"{n}_{side}": float(v.nanmean()) for side in scores for n, v in scores[side].items()}

    def end_of_step(self) -> None:
        """Record the scenes of a step: a scene of several encoder calls once, with the record of each call in it."""
        for scene, calls in self._calls.items():
            assert self.lines is not None, "begin() comes first"
            entry = calls[0] if len(calls) == 1 else of_several(calls)
            rank = {"rank": self._rank} if self._rank else {}
            self.lines.add({"scene": scene, "occurrence": self._seen[scene], **rank, **entry})
            self._seen[scene] += 1
        self._calls = {}

    def finish(self) -> None:
        """Write ``diff3r_scores.json`` and print the table; nothing where no scene was refined."""
        lines, self.lines = self.lines, None
        if lines is None:
            return
        self._wait_for_the_others()
        if self._rank == 0:
            lines.merge([self.folder() / self._named("scores", ".jsonl", r) for r in range(1, self._ranks)])
        if not lines.entries:
            lines.remove()
            return
        lines.finish()
        if self._rank != 0:
            return
        record = EvaluationRecord(lines.entries)
        path = self.folder() / "diff3r_scores.json"
        fallen = sum(outcome in FALLEN for entry in lines.entries for outcome in entry["outcome"].split(", "))
        header = {name: value for name, value in self._header().items() if name != "format"}
        more = {"command": command_line(), "fallbacks": fallen, "metrics": self.metrics.sources}
        record.write(path, {**header, **more})
        print(record.table())
        for table in (record.sweep_table(), record.compare_table()):
            if table:
                print(table)
        if self.poses_source is not None and not self.context.adapter.encoder_sees_poses:
            print(f"[diff3r] {self.poses_source.about(record.entries)}")
        print(f"[diff3r] scores before and after refinement: {path}")
        print(f"[diff3r] a page of them: diff3r report {shlex.quote(str(path.parent))}")
        problem = self.use.problem(self.context.adapter.name)
        if problem is not None:  # not raised: the host's own scores, which are the others, are still to come
            self.context.report_error(PluginError(problem))

    def folder(self) -> Path:
        """Where the plugin writes at test."""
        if self.context.settings.output:
            return Path(self.context.settings.output) / self.subfolder
        return self.context.adapter.scores_folder(self.wrapper, self.context.host_config) / self.subfolder

    @property
    def _rank(self) -> int:
        return loop_of(self.wrapper).rank

    @property
    def _ranks(self) -> int:
        return loop_of(self.wrapper).ranks

    def _named(self, stem: str, suffix: str, rank: int | None = None) -> str:
        rank = self._rank if rank is None else rank
        return f"{stem}_rank{rank}{suffix}" if rank else f"{stem}{suffix}"

    def _wait_for_the_others(self) -> None:
        """Every process ends its test: their files are whole when they are merged."""
        if self._ranks > 1:
            loop_of(self.wrapper).wait("diff3r scores")

    def _checkpoint(self) -> str | None:
        return self.context.adapter.checkpoint(self.wrapper, self.context.host_config)

    def _identity(self) -> dict[str, Any]:
        return identity_of_test(self.context, self._checkpoint(), self._ranks)

    def _header(self) -> dict[str, Any]:
        """What holds for all scenes; settings are all of them, those that nobody set included."""
        context = self.context
        return {
            "format": 1,
            **self._identity(),
            "checkpoint": described_checkpoint(self._checkpoint()),
            "settings": asdict(context.settings),
            "head": context.settings.head,
            "head_from_checkpoint": "head" in self.head.loaded,
            "confidence": context.settings.confidence,
            "context_poses": None if self.poses_source is None else self.poses_source.name,
            "encoder_sees_context_poses": context.adapter.encoder_sees_poses,
        }

    def _scores(
        self, truth: Tensor, before: Tensor, after: Tensor, on_context: Mapping[str, Tensor]
    ) -> dict[str, dict[str, Tensor]]:
        """Metrics per scene ``[B]`` before and after, means over the views."""
        return {
            side: {**self.metrics(truth, target), "psnr_context": on_context[side]}
            for side, target in (("before", before), ("after", after))
        }

    def _tell_of_disagreement(self, least: float) -> None:
        if least < POOR_AGREEMENT and not self._told_of_disagreement:
            self._told_of_disagreement = True
            self.context.say(
                f"our rendering of the predicted scene differs from the host's own: {least:.1f} dB, "
                f"expected over {POOR_AGREEMENT:.0f}. Cameras, harmonics, near plane or image formation (antialiased, "
                "dilation, Gaussians that the decoder drops: visible) of adapter "
                f"{self.context.adapter.name!r} do not fit this host; refinement may not help its images."
            )
