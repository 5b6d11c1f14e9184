"""What a host's test gives: scores before and after refinement, the table, and what the settings ask to be written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diff3r_plugin.plugin import artifacts
from diff3r_plugin.plugin.head_state import HeadState
from diff3r_plugin.plugin.measurements import context_psnr, renderer_agreement, target_renderings
from diff3r_plugin.plugin.refinement import Refinement
from diff3r_plugin.plugin.run_context import RunContext
from diff3r_plugin.plugin.scores import TestRecord, psnr, ssim

POOR_AGREEMENT = 40.0
"""dB below which our renderings and the host's do not mean the same scene."""


class HostTest:
    """The record of one test of a host, from its first batch to the scores file.

    Args:
        wrapper: The host's LightningModule.
        context: Settings, adapter and host configuration of this run.
        head: The uncertainty head; the file says whether a checkpoint gave it.
        context_poses: "batch", "estimate" or "predicted": where the context poses come from at test.
    """

    def __init__(self, wrapper: Any, context: RunContext, head: HeadState, context_poses: str | None) -> None:
        self.wrapper, self.context, self.head, self.context_poses = wrapper, context, head, context_poses
        self.record = TestRecord()
        self._told_of_disagreement = False
        self._calls: dict[str, list[dict[str, Any]]] = {}

    def add(self, refinement: Refinement, batch: Any) -> dict[str, float]:
        """Take in the scenes of one encoder call and write what the settings ask for; returns their mean scores.

        They are recorded at the `end_of_step`, for a host may call its encoder several times for a scene.
        """
        adapter, wrapper, backend = self.context.adapter, self.wrapper, self.context.settings.tto.backend
        names = adapter.scene_names(batch)
        before, after = target_renderings(adapter, wrapper, refinement, batch)
        with torch.no_grad():
            context_rendering = adapter.render_context(wrapper, refinement.before, batch)
        with torch.inference_mode(False), torch.no_grad():
            targets = adapter.target_views(wrapper, batch, refinement.before)
        assert targets.images is not None
        scores = _scores(targets.images, before, after, context_psnr(refinement, backend))
        agreement = renderer_agreement(refinement, targets, before, context_rendering, backend)
        self._tell_of_disagreement(float(agreement.min()))
        info, poses = refinement.info, refinement.pose_figures()
        for index, scene in enumerate(names):
            self._calls.setdefault(scene, []).append(
                {
                    **{side: {name: float(v[index]) for name, v in scores[side].items()} for side in scores},
                    "seconds": refinement.seconds / len(info.outcomes),
                    "outcome": str(info.outcomes[index]),
                    "energy": info.energy[:, index].tolist(),
                    "stationarity": float(info.stationarity[index]),
                    "accepted_steps": int(info.accepted_steps[index]),
                    "pcg_iterations": int(info.pcg_iterations[index]),
                    "renderer_agreement_psnr": float(agreement[index]),
                    **{name: float(values[index]) for name, values in poses.items()},
                },
            )
        folders = [scene if len(self._calls[scene]) == 1 else f"{scene}_{len(self._calls[scene])}" for scene in names]
        artifacts.write(self.context.settings, self.folder(), folders, refinement, targets, before, after)
        return {f"{n}_{side}": float(v.nanmean()) for side in scores for n, v in scores[side].items()}

    def end_of_step(self) -> None:
        """Record the scenes of a step: a scene of several encoder calls once, with the record of each call in it."""
        for scene, calls in self._calls.items():
            entry = calls[0] if len(calls) == 1 else _of_several(calls)
            before, after = entry.pop("before"), entry.pop("after")
            self.record.add(scene, before, after, entry)
        self._calls = {}

    def finish(self, fallbacks: int) -> None:
        """Write ``diff3r_scores.json`` and print the table; nothing where no scene was refined.

        Args:
            fallbacks: How many scenes kept their initial Gaussians.
        """
        if not self.record.entries:
            return
        context = self.context
        rank = int(getattr(self.wrapper, "global_rank", 0))
        path = self.folder() / ("diff3r_scores.json" if rank == 0 else f"diff3r_scores_rank{rank}.json")
        header: dict[str, Any] = {
            "adapter": context.adapter.name,
            "version": context.settings.version,
            "head": context.settings.head,
            "head_from_checkpoint": "head" in self.head.loaded,
            "confidence": context.settings.confidence,
            "context_poses": self.context_poses,
            "encoder_sees_context_poses": context.adapter.encoder_sees_poses,
            "settings": asdict(context.settings),
            "fallbacks": fallbacks,
        }
        self.record.write(path, header)
        if rank == 0:
            print(self.record.table())
            if not context.adapter.encoder_sees_poses:
                print(f"[diff3r] {_about_poses(self.context_poses, self.record.entries)}")
            print(f"[diff3r] scores before and after refinement: {path}")
        self.record = TestRecord()

    def folder(self) -> Path:
        """Where the plugin writes at test."""
        if self.context.settings.output:
            return Path(self.context.settings.output)
        return self.context.adapter.scores_folder(self.wrapper, self.context.host_config)

    def _tell_of_disagreement(self, least: float) -> None:
        if least < POOR_AGREEMENT and not self._told_of_disagreement:
            self._told_of_disagreement = True
            self.context.say(
                f"our rendering of the predicted scene differs from the host's own: {least:.1f} dB, "
                f"expected over {POOR_AGREEMENT:.0f}. Cameras, harmonics or near plane of adapter "
                f"{self.context.adapter.name!r} do not fit this host; refinement may not help its images."
            )


def _scores(
    truth: Tensor, before: Tensor, after: Tensor, on_context: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Metrics per scene ``[B]`` before and after, means over the views."""
    return {
        side: {
            "psnr": psnr(truth, target).mean(-1),
            "ssim": ssim(truth, target).mean(-1),
            "psnr_context": on_context[side],
        }
        for side, target in (("before", before), ("after", after))
    }


def _of_several(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of a scene from those of its encoder calls: means of the metrics, the worst of what the solver says."""
    sides = {
        side: {name: sum(call[side][name] for call in calls) / len(calls) for name in calls[0][side]}
        for side in ("before", "after")
    }
    poses = {name: sum(call[name] for call in calls) / len(calls) for name in calls[0] if name.startswith("pose_")}
    return {
        **sides,
        "seconds": sum(call["seconds"] for call in calls),
        "outcome": ", ".join(dict.fromkeys(call["outcome"] for call in calls)),
        "energy": [sum(values) / len(values) for values in zip(*(call["energy"] for call in calls), strict=True)],
        "stationarity": max(call["stationarity"] for call in calls),
        "accepted_steps": min(call["accepted_steps"] for call in calls),
        "pcg_iterations": sum(call["pcg_iterations"] for call in calls),
        "renderer_agreement_psnr": min(call["renderer_agreement_psnr"] for call in calls),
        **poses,
        "calls": calls,
    }


def _about_poses(source: str | None, entries: list[dict[str, Any]]) -> str:
    """What to know of scores of a host whose encoder does not see the context poses."""
    if source == "batch":
        return (
            "context poses: those of the data (diff3r.context_poses=batch), which this host's encoder does not "
            "see: the scores after refinement are not those of a pose-free method"
        )
    means = {
        name: torch.tensor([entry[name] for entry in entries], dtype=torch.float64).nanmean().item()
        for name in entries[0]
        if name.startswith("pose_")
    }
    if source == "predicted":
        return (
            "context poses: predicted by the host, then refined with the scene; difference to the data's: rotation "
            f"{means['pose_rotation_error_before']:.2f} to {means['pose_rotation_error_after']:.2f}, direction "
            f"{means['pose_translation_error_before']:.2f} to {means['pose_translation_error_after']:.2f} degrees"
        )
    lost = sum(math.isnan(entry["before"]["psnr_context"]) for entry in entries)
    return (
        "context poses: estimated from the prediction, then refined with it; error against the data: rotation "
        f"{means['pose_rotation_error_before']:.2f} to {means['pose_rotation_error_after']:.2f}, direction "
        f"{means['pose_translation_error_before']:.2f} to {means['pose_translation_error_after']:.2f} degrees; "
        f"{lost} of {len(entries)} scenes without poses kept their initial Gaussians"
    )
