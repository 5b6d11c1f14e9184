"""Terms that the plugin adds to a host's training loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diff3r_plugin.heads.confidence import supervision_loss
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.refining.step import Step


def with_loss(result: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A training step's result, which is a loss or a mapping with one, with the loss changed.

    A step that returns None is skipped by Lightning, and one without gradients trains nothing: both stay as they are.
    """
    if result is None or not torch.is_grad_enabled():
        return result
    if isinstance(result, dict):
        return {**result, "loss": change(result["loss"])}
    return change(result)


def with_unrefined_loss(result: Any, weight: float, adapter: HostAdapter, wrapper: nn.Module, step: Step) -> Any:
    """The result of a training step plus ``weight`` times the unrefined scenes' squared error on the target views.

    The implicit gradient says nothing of what the optimizer puts right anyway, so the unrefined scene decays while
    the refined one gains; this holds it.
    """
    if not weight or not step.calls:
        return result

    def plus_error(loss: Tensor) -> Tensor:
        for call in step.calls:
            rendered = adapter.render_targets(wrapper, call.refinement.before, call.batch, call.refinement.call)
            error = ((rendered - adapter.target_images(call.batch)) ** 2).mean()
            loss = loss + weight / len(step.calls) * error.to(loss)
        return loss

    return with_loss(result, plus_error)


def with_confidence_loss(result: Any, weight: float, adapter: HostAdapter, step: Step) -> Any:
    """The result of a training step plus ``weight`` times the confidence's cross entropy, where the data knows better.

    Raises:
        PluginError: if the data says nothing of corrupted pixels.
    """
    batch, confidence = step.batch, step.confidence
    if step.latest is not None:
        batch, confidence = step.latest.batch, step.latest.refinement.confidence
    if not weight or confidence is None:
        return result
    corrupted = adapter.corrupted_pixels(batch)
    if corrupted is None:
        raise PluginError(
            "diff3r.confidence_supervision needs data that knows its corrupted context pixels (masks beside its "
            "context images, as `diff3r make-data --outlier-share` writes them); this batch says nothing. "
            "Set it to 0 to train the confidence by the refined scene alone."
        )
    if confidence.shape[1] < 2:  # nothing was predicted
        return result
    return with_loss(result, lambda loss: loss + weight * supervision_loss(confidence, corrupted).to(loss))


def with_parameters(result: Any, parameters: list[nn.Parameter]) -> Any:
    """The result of a training step plus zero times every parameter.

    Plain DDP stops at a parameter without gradient, so every step must touch all of them, refined or not.
    """
    return with_loss(result, lambda loss: loss + sum(p.sum().to(loss) * 0 for p in parameters))
