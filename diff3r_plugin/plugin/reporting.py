"""Metrics for the host's logger, scores for the test record."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diff3r_plugin.info import Outcome
from diff3r_plugin.plugin import artifacts
from diff3r_plugin.plugin.refinement import Refinement
from diff3r_plugin.plugin.scores import TestRecord, psnr, ssim
from diff3r_plugin.render import render

if TYPE_CHECKING:
    from diff3r_plugin.plugin.attachment import Attachment

WARN_EVERY = 1000
POOR_AGREEMENT, BEST_AGREEMENT = 40.0, 120.0
FALLBACKS = (Outcome.INVALID_GAUSSIANS, Outcome.INVALID_VIEWS, Outcome.NO_DESCENT)


class Reporter:
    """Reports what refinement did, for one attached model."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self.record = TestRecord()
        self.fallbacks = 0
        self._next_warning = 0
        self._told_of_disagreement = False

    def report(self, refinement: Refinement) -> None:
        """At the end of a step of the host in which its encoder was refined."""
        stage, wrapper = self.attachment.stage, self.attachment.wrapper
        figures = solver_figures(refinement)
        self._count_fallbacks(refinement)
        if stage == "test":
            self._record_test(refinement)
            return
        if stage == "val" or int(wrapper.global_step) % self.attachment.settings.log_every == 0:
            figures |= {name: float(value.nanmean()) for name, value in self.scores(refinement).items()}
        if stage == "train":
            self._warn_if_not_stationary(figures["stationarity"])
            figures["fallbacks_total"] = float(self.fallbacks)
            if self.attachment.optimizer is not None:
                figures["head_lr"] = self.attachment.optimizer.learning_rate
                figures["head_steps_skipped"] = float(self.attachment.optimizer.skipped)
        self._log(figures, refinement)

    def _log(self, figures: dict[str, float], refinement: Refinement) -> None:
        stage = self.attachment.stage
        prefix = "diff3r/" if stage == "train" else f"diff3r/{stage}/"
        for name, value in figures.items():
            if math.isfinite(value):
                # hosts validate on rank 0 only: nothing here may wait for the other ranks
                self.attachment.wrapper.log(
                    prefix + name, value, batch_size=len(refinement.info.outcomes), rank_zero_only=stage == "val"
                )

    def scores(self, refinement: Refinement) -> dict[str, Tensor]:
        """PSNR before and after per scene ``[B]``: on the context with our renderer, on the target with the host's."""
        attachment = self.attachment
        context = {f"psnr_context_{side}": value for side, value in self.context_scores(refinement).items()}
        with torch.no_grad():
            truth = attachment.adapter.target_images(attachment.batch)
            before, after = self._target_pictures(refinement)
        return context | {
            "psnr_target_before": psnr(truth, before).mean(-1),
            "psnr_target_after": psnr(truth, after).mean(-1),
        }

    def context_scores(self, refinement: Refinement) -> dict[str, Tensor]:
        """PSNR ``[B]`` on the context before and after, each with its cameras; NaN for scenes without any."""
        backend, photographs = self.attachment.settings.tto.backend, refinement.photographs
        scenes = {
            "before": (refinement.gaussians, refinement.views),
            "after": (refinement.refined, refinement.refined_views),
        }
        with torch.inference_mode(False), torch.no_grad():
            return {
                side: psnr(photographs, render(*scene, backend))
                .mean(-1)
                .masked_fill(refinement.without_poses, math.nan)
                for side, scene in scenes.items()
            }

    def _target_pictures(self, refinement: Refinement) -> tuple[Tensor, Tensor]:
        adapter, wrapper, batch = self.attachment.adapter, self.attachment.wrapper, self.attachment.batch
        return (
            adapter.render_targets(wrapper, refinement.before, batch),
            adapter.render_targets(wrapper, refinement.after, batch),
        )

    def _count_fallbacks(self, refinement: Refinement) -> None:
        fallen = [outcome for outcome in refinement.info.outcomes if outcome in FALLBACKS]
        if fallen:
            self.fallbacks += len(fallen)
            if self.fallbacks <= 3 or self.fallbacks % 100 == 0:
                names = ", ".join(sorted({str(outcome) for outcome in fallen}))
                if refinement.poses is not None:
                    names = "; ".join([names, *filter(None, refinement.poses.failures)])
                self.attachment.say(
                    f"{self.fallbacks} scene(s) so far kept their initial Gaussians; now: {names} in "
                    f"{', '.join(self.attachment.adapter.scene_names(self.attachment.batch))}"
                )

    def _warn_if_not_stationary(self, stationarity: float) -> None:
        tto, step = self.attachment.settings.tto, int(self.attachment.wrapper.global_step)
        limit = tto.stationarity_warning
        if tto.backward_mode != "implicit" or limit is None or not stationarity > limit or step < self._next_warning:
            return
        self._next_warning = step + WARN_EVERY
        self.attachment.say(
            f"step {step}: the gradient of the energy is still {stationarity:.2g} of its start where the implicit "
            f"gradient is taken (limit {limit:g}); it may be wrong, even in sign. Raise diff3r.inner_steps or "
            "diff3r.inner_pcg_iterations, or the weights; diff3r/stationarity is logged. Next such line after "
            f"{WARN_EVERY} steps."
        )

    # ---------------------------------------------------------------- test

    def _record_test(self, refinement: Refinement) -> None:
        attachment = self.attachment
        with torch.no_grad():
            truth = attachment.adapter.target_images(attachment.batch)
            before, after = self._target_pictures(refinement)
        scores = self.scores_of_test(truth, before, after, refinement)
        agreement = self.renderer_agreement(refinement, before)
        info, poses = refinement.info, refinement.pose_figures()
        for index, scene in enumerate(attachment.adapter.scene_names(attachment.batch)):
            self.record.add(
                scene,
                {name: float(values[index]) for name, values in scores["before"].items()},
                {name: float(values[index]) for name, values in scores["after"].items()},
                {
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
        figures = {f"{n}_{side}": float(v.nanmean()) for side in scores for n, v in scores[side].items()}
        self._log(figures | solver_figures(refinement), refinement)
        artifacts.write(attachment, self.folder(), refinement, truth, before, after)

    def scores_of_test(
        self, truth: Tensor, before: Tensor, after: Tensor, refinement: Refinement
    ) -> dict[str, dict[str, Tensor]]:
        """Scores per scene ``[B]``, means over the views."""
        context = self.context_scores(refinement)
        return {
            side: {
                "psnr": psnr(truth, target).mean(-1),
                "ssim": ssim(truth, target).mean(-1),
                "psnr_context": context[side],
            }
            for side, target in (("before", before), ("after", after))
        }

    def renderer_agreement(self, refinement: Refinement, before: Tensor) -> Tensor:
        """PSNR ``[B]`` of our pictures of the unrefined scene against the host's: do both mean the same scene?

        The least over the target views and, where the adapter can ask the host for them, the context views; with the
        cameras of the batch. What is best for our renderer is best for the host's only as far as they agree, so a low
        value is reported.
        """
        attachment = self.attachment
        adapter, wrapper, batch = attachment.adapter, attachment.wrapper, attachment.batch
        with torch.no_grad():
            context = adapter.render_context(wrapper, refinement.before, batch)
        with torch.inference_mode(False), torch.no_grad():
            pairs = [(before, adapter.target_views(wrapper, batch))]
            if context is not None:
                pairs.append((context, adapter.context_views(wrapper, batch["context"])))
            backend = attachment.settings.tto.backend
            each = [psnr(theirs, render(refinement.gaussians, views, backend)).amin(-1) for theirs, views in pairs]
            agreement = torch.stack(each).amin(0).clamp_max(BEST_AGREEMENT)
        if float(agreement.min()) < POOR_AGREEMENT and not self._told_of_disagreement:
            self._told_of_disagreement = True
            attachment.say(
                f"our picture of the predicted scene differs from the host's own: {float(agreement.min()):.1f} dB, "
                f"expected over {POOR_AGREEMENT:.0f}. Cameras, harmonics or near plane of adapter "
                f"{attachment.adapter.name!r} do not fit this host; refinement may not help its pictures."
            )
        return agreement

    def folder(self) -> Path:
        """Where the plugin writes at test."""
        attachment = self.attachment
        if attachment.settings.output:
            return Path(attachment.settings.output)
        return attachment.adapter.scores_folder(attachment.wrapper, attachment.session.config)

    def finish_test(self) -> None:
        """Write ``diff3r_scores.json`` and print the table."""
        if not self.record.entries:
            return
        attachment = self.attachment
        rank = int(getattr(attachment.wrapper, "global_rank", 0))
        path = self.folder() / ("diff3r_scores.json" if rank == 0 else f"diff3r_scores_rank{rank}.json")
        header: dict[str, Any] = {
            "adapter": attachment.adapter.name,
            "version": attachment.settings.version,
            "head": attachment.settings.head,
            "head_from_checkpoint": attachment.head_loaded,
            "context_poses": self.context_poses,
            "encoder_sees_context_poses": attachment.adapter.encoder_sees_poses,
            "settings": attachment.session.described_settings(),
            "fallbacks": self.fallbacks,
        }
        self.record.write(path, header)
        if rank == 0:
            print(self.record.table())
            if not attachment.adapter.encoder_sees_poses:
                print(f"[diff3r] {self._poses_of_the_test()}")
            print(f"[diff3r] scores before and after refinement: {path}")
        self.record = TestRecord()

    @property
    def context_poses(self) -> str:
        """Where the context poses of the test came from."""
        return self.attachment.refiner.poses["test"]

    def _poses_of_the_test(self) -> str:
        """What to know of scores of a host whose encoder does not see the context poses."""
        if self.context_poses == "batch":
            return (
                "context poses: those of the data (diff3r.context_poses=batch), which this host's encoder does not "
                "see: the scores after refinement are not those of a pose-free method"
            )
        means = {
            name: torch.tensor([entry[name] for entry in self.record.entries], dtype=torch.float64).nanmean().item()
            for name in self.record.entries[0]
            if name.startswith("pose_")
        }
        lost = sum(math.isnan(entry["before"]["psnr_context"]) for entry in self.record.entries)
        return (
            "context poses: estimated from the prediction, then refined with it; error against the data: rotation "
            f"{means['pose_rotation_error_before']:.2f} to {means['pose_rotation_error_after']:.2f}, direction "
            f"{means['pose_translation_error_before']:.2f} to {means['pose_translation_error_after']:.2f} degrees; "
            f"{lost} of {len(self.record.entries)} scenes without poses kept their initial Gaussians"
        )


def solver_figures(refinement: Refinement) -> dict[str, float]:
    """What the solver reports, as means over the scenes of a batch."""
    info = refinement.info
    energy = info.energy.double()
    figures = {
        "seconds": refinement.seconds,
        "stationarity": _mean(info.stationarity),
        "energy_ratio": _mean(energy[-1] / energy[0].clamp_min(1e-30)),
        "accepted_steps": _mean(info.accepted_steps),
        "pcg_iterations": _mean(info.pcg_iterations),
        "pcg_relative_residual": _mean(info.pcg_relative_residual),
        "fallbacks": float(sum(outcome in FALLBACKS for outcome in info.outcomes)),
    }
    figures |= {name: _mean(values) for name, values in refinement.pose_figures().items()}
    for group, weight in refinement.weights.tensors().items():
        if group == "poses" and refinement.poses is not None:
            weight = torch.as_tensor(weight)[:, 1:]  # the first view is held by a weight that nobody chose
        figures[f"weight_{group}"] = float(torch.as_tensor(weight).detach().double().log().mean().exp())
    return figures


def _mean(values: Tensor) -> float:
    values = values.detach().double()
    values = values[values.isfinite()]
    return float(values.mean()) if values.numel() else math.nan
