"""Which calls of a host's encoder are refined: those of losses and metrics, in the stages that the settings name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from diff3r_plugin.plugin.errors import announced
from diff3r_plugin.plugin.host.call import Call
from diff3r_plugin.plugin.host.host_loop import loop_of
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.refiner import Refiner
from diff3r_plugin.plugin.refining.step import RefinedCall, Step


class EncoderCalls:
    """Stands between a host and its encoder.

    Args:
        wrapper: The host's LightningModule.
        context: The run's settings and adapter.
        refiner: Refines one output of the encoder.
    """

    def __init__(self, wrapper: nn.Module, context: RunContext, refiner: Refiner) -> None:
        self.wrapper, self.context, self.refiner = wrapper, context, refiner
        self.method = context.adapter.refined_of(context.adapter.encoder(wrapper))
        self.parameters: tuple[str, ...] = ()
        self._steps: list[Step] = []  # the innermost last
        self._left_alone = 0

    @contextmanager
    def within(self, step: Step) -> Iterator[None]:
        """Within, encoder calls belong to this step of the host, or to one that begins within."""
        self._steps.append(step)
        try:
            yield
        finally:
            self._steps.remove(step)  # maybe not the last one: two loops of a host may take turns

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Within, encoder calls are not refined."""
        self._left_alone += 1
        try:
            yield
        finally:
            self._left_alone -= 1

    def refining(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The encoder's method that carries its scene, with a refined one where that is wanted."""
        return self._refining(method, self.refiner, ("train", "val", "test"))

    def refining_a_copy(self, encoder: nn.Module) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """The same for a copy of the encoder that the host evaluates in its place, and does not train."""
        return partial(self._refining, refiner=self.refiner.of_a_copy(encoder), stages=("val", "test"))

    def _refining(self, method: Callable[..., Any], refiner: Refiner, stages: tuple[str, ...]) -> Callable[..., Any]:
        self.parameters = tuple(inspect.signature(method).parameters)
        refined = self.method.refining(method, partial(self._refined, refiner, stages))

        def refining_method(*args: Any, **kwargs: Any) -> Any:
            if self.method.side == "output":
                refiner.before_encoder()
                return refined(*args, **kwargs)
            try:  # features were read on the way here
                return refined(*args, **kwargs)
            finally:
                refiner.before_encoder()

        return announced(refining_method, self.context.report_error)

    def _refined(
        self, refiner: Refiner, stages: tuple[str, ...], output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What holds a scene, with that refined if the call is one of a step that wants it."""
        step, adapter = self._steps[-1] if self._steps else None, self.context.adapter
        if step is None or self._left_alone or not step.takes_in(self.wrapper):
            return output
        if step.stage not in stages or not self._wanted(step.stage, output):
            return output
        call = Call(self.wrapper, args, kwargs, step.batch, step.stage, self.parameters)
        if self.warming_up(step.stage):
            if self.context.settings.confidence_supervision:
                step.confidence = refiner.confidence_alone(output, call)
            return output
        with refiner.reader.reading(output):
            batch = adapter.batch_of_call(call)
        if torch.is_grad_enabled():
            refinement = refiner(output, call)
        else:  # evaluation runs in inference mode, whose tensors cannot take part in the solver
            with torch.inference_mode(False), torch.no_grad():
                refinement = refiner(output, call)
        step.calls.append(RefinedCall(refinement, batch))
        return refinement.after

    def leaving_alone(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the host within which encoder calls are not refined."""

        def unrefined(*args: Any, **kwargs: Any) -> Any:
            with self.left_alone():
                return method(*args, **kwargs)

        return unrefined

    def noting_images(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method that renders for the host's metrics; a step of a test learns what it gave."""

        def noting(*args: Any, **kwargs: Any) -> Any:
            drawn = method(*args, **kwargs)
            if self._steps and not self._left_alone and self._steps[-1].stage == "test":
                self._steps[-1].drawn.append(self.context.adapter.drawn_images(drawn).detach())
            return drawn

        return noting

    def noting_the_batch(self, data_shim: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The host's ``data_shim``, of which the step learns the result: that is what the host works with."""

        def noting_data_shim(batch: Any) -> Any:
            batch = data_shim(batch)
            if self._steps:
                self._steps[-1].batch = batch
            return batch

        return noting_data_shim

    def _wanted(self, stage: str, output: Any) -> bool:
        return stage in self.context.settings.refine and self.context.adapter.refinable(output)

    def warming_up(self, stage: str) -> bool:
        """Whether calls are not refined yet (``diff3r.warm_up_steps``)."""
        return stage == "train" and loop_of(self.wrapper).step < self.context.settings.warm_up_steps
