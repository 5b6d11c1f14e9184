"""Which calls of a host's encoder are refined: those of losses and metrics, in the stages that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from diff3r_plugin.plugin.errors import announced
from diff3r_plugin.plugin.refiner import Refiner
from diff3r_plugin.plugin.run_context import RunContext
from diff3r_plugin.plugin.step import RefinedCall, Step


class EncoderCalls:
    """Stands between a host and its encoder.

    Args:
        wrapper: The host's LightningModule.
        context: The run's settings and adapter.
        refiner: Refines one output of the encoder.
    """

    def __init__(self, wrapper: nn.Module, context: RunContext, refiner: Refiner) -> None:
        self.wrapper, self.context, self.refiner = wrapper, context, refiner
        self._step: Step | None = None
        self._left_alone = 0

    @contextmanager
    def within(self, step: Step) -> Iterator[None]:
        """Within, encoder calls belong to this step of the host."""
        outer, self._step = self._step, step
        try:
            yield
        finally:
            self._step = outer

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Within, encoder calls are not refined."""
        self._left_alone += 1
        try:
            yield
        finally:
            self._left_alone -= 1

    def refining(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """``encoder.forward`` that returns a refined scene where one is wanted."""

        def refining_forward(*args: Any, **kwargs: Any) -> Any:
            self.refiner.before_encoder()
            output = forward(*args, **kwargs)
            step, adapter = self._step, self.context.adapter
            if step is None or self._left_alone or not self._wanted(step.stage, output):
                return output
            encoder_context = adapter.context_of(args, kwargs)
            if self._warming_up(step.stage):
                if self.context.settings.confidence_supervision:
                    step.confidence = self.refiner.confidence_alone(output, encoder_context)
                return output
            batch = adapter.batch_of_call(step.batch, args, kwargs)
            if torch.is_grad_enabled():
                refinement = self.refiner(output, encoder_context, step.stage)
            else:  # evaluation runs in inference mode, whose tensors cannot take part in the solver
                with torch.inference_mode(False), torch.no_grad():
                    refinement = self.refiner(output, encoder_context, step.stage)
            step.calls.append(RefinedCall(refinement, batch))
            return refinement.after

        return announced(refining_forward, self.context.report_error)

    def leaving_alone(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the host within which encoder calls are not refined."""

        def unrefined(*args: Any, **kwargs: Any) -> Any:
            with self.left_alone():
                return method(*args, **kwargs)

        return unrefined

    def noting_the_batch(self, data_shim: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The host's ``data_shim``, of which the step learns the result: that is what the host works with."""

        def noting_data_shim(batch: Any) -> Any:
            batch = data_shim(batch)
            if self._step is not None:
                self._step.batch = batch
            return batch

        return noting_data_shim

    def _wanted(self, stage: str, output: Any) -> bool:
        return stage in self.context.settings.refine and self.context.adapter.refinable(output)

    def _warming_up(self, stage: str) -> bool:
        return stage == "train" and int(self.wrapper.global_step) < self.context.settings.warm_up_steps  # type: ignore[arg-type]
