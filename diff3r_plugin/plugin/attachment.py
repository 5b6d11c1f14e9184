"""What the plugin adds to one model of a host: the head, the override of ``encoder.forward``, the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diff3r_plugin.plugin import checkpoints
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.head_optimizer import HeadOptimizer
from diff3r_plugin.plugin.patching import Patch, Patches
from diff3r_plugin.plugin.refinement import Refinement
from diff3r_plugin.plugin.refiner import Refiner
from diff3r_plugin.plugin.reporting import Reporter

if TYPE_CHECKING:
    from diff3r_plugin.plugin.session import Session

HEAD = "diff3r_head"


class Attachment:
    """The plugin's part of one host model.

    Args:
        wrapper: The host's LightningModule, just constructed.
        session: The plugin's session (settings, adapter, host configuration).

    Raises:
        PluginError: if the model is not what the adapter expects.
    """

    def __init__(self, wrapper: Any, session: Session) -> None:
        self.wrapper, self.session = wrapper, session
        self.settings, self.adapter, self.say = session.settings, session.adapter, session.say
        self.stage: str | None = None
        self.batch: Any = None
        self.latest: Refinement | None = None
        self.optimizer: HeadOptimizer | None = None
        self.head_loaded = False
        self._quiet = 0
        self._pending_optimizer: dict[str, Any] | None = None
        self.patches = Patches()
        self.refiner = Refiner(wrapper, self.adapter, self.settings)
        self.weights = self.refiner.weights
        self.head: nn.Module | None = self.weights.head
        if self.head is not None:
            wrapper.add_module(HEAD, self.head.to(next(wrapper.parameters()).device))
            checkpoints.keep_out_of_state_dict(wrapper, HEAD)
        self.reporter = Reporter(self)

        encoder = self.adapter.encoder(wrapper)
        self.patches.apply(Patch(encoder, "forward", self._refining, "refines what the encoder returns"))
        self.patches.apply(
            Patch(wrapper, "load_state_dict", self._loading, "takes the head from a bare state dict, too")
        )
        if callable(getattr(wrapper, "data_shim", None)):
            self.patches.apply(Patch(wrapper, "data_shim", self._watching, "notes the batch the host works with"))
        if not self.settings.refine_extra:
            for path in self.adapter.unrefined:
                self._leave_alone(path)
        session.registry_hook("diff3r_configure", wrapper=wrapper)

    # ---------------------------------------------------------------- where a call comes from

    @contextmanager
    def step(self, stage: str, batch: Any) -> Iterator[None]:
        """Marks a training, validation or test step of the host."""
        self.stage, self.batch, self.latest = stage, batch, None
        try:
            yield
        finally:
            self.stage, self.batch, self.latest = None, None, None

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Within, encoder calls are left alone."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def _leave_alone(self, path: str) -> None:
        owner_path, _, method = path.rpartition(".")
        owner = self.wrapper
        for part in filter(None, owner_path.split(".")):
            owner = getattr(owner, part, None)
        if owner is None or not callable(getattr(owner, method, None)):
            return  # hosts build some of these only on request

        def make(original):
            def unrefined(*args, **kwargs):
                with self.quiet():
                    return original(*args, **kwargs)

            return unrefined

        self.patches.apply(Patch(owner, method, make, "encoder calls inside are left alone"))

    def _watching(self, original):
        def data_shim(batch):
            self.batch = original(batch)
            return self.batch

        return data_shim

    def _loading(self, original):
        def load_state_dict(state_dict, *args, **kwargs):
            result = original(state_dict, *args, **kwargs)
            checkpoints.load_from_metadata(self, state_dict)
            return result

        return load_state_dict

    # ---------------------------------------------------------------- refinement

    def _refining(self, original):
        def forward(*args, **kwargs):
            self.refiner.before_encoder()
            output = original(*args, **kwargs)
            if self.stage is None or self._quiet:
                return output
            return self._refine(output, self.adapter.context_of(args, kwargs))

        return forward

    def _refine(self, output: Any, context: Any) -> Any:
        on = self.stage in self.settings.refine
        if self.stage == "train":
            on = on and int(self.wrapper.global_step) >= self.settings.warm_up_steps
        if not on or not self.adapter.refinable(output):
            return output
        assert self.stage is not None
        if torch.is_grad_enabled():
            self.latest = self.refiner(output, context, self.stage)
        else:  # evaluation runs in inference mode, whose tensors cannot take part in the solver
            with torch.inference_mode(False), torch.no_grad():
                self.latest = self.refiner(output, context, self.stage)
        return self.latest.after

    def with_unrefined_loss(self, result: Any) -> Any:
        """The result of a training step plus the unrefined scene's squared error on the target views.

        The implicit gradient says nothing of what the optimizer puts right anyway, so the unrefined scene decays while
        the refined one gains; this holds it.
        """
        weight = self.settings.unrefined_loss
        if not weight or self.latest is None or result is None or not torch.is_grad_enabled():
            return result
        with self.quiet():
            pictures = self.adapter.render_targets(self.wrapper, self.latest.before, self.batch)
        error = ((pictures - self.adapter.target_images(self.batch)) ** 2).mean()
        return _with_loss(result, lambda loss: loss + weight * error.to(loss))

    def keep_head_in_graph(self, result: Any) -> Any:
        """The result of a training step plus zero times every parameter of the head.

        Plain DDP stops at a parameter without gradient, so every step must touch all of them, refined or not.
        """
        if self.head is None or result is None or not torch.is_grad_enabled():
            return result
        parameters = [parameter for parameter in self.head.parameters() if parameter.requires_grad]
        return _with_loss(result, lambda loss: loss + sum(parameter.sum().to(loss) * 0 for parameter in parameters))

    # ---------------------------------------------------------------- reports

    def report(self) -> None:
        """At the end of a host's step: metrics to the host's logger, scores to the record."""
        if self.latest is not None:
            self.reporter.report(self.latest)

    def finish_test(self) -> None:
        """At the end of a host's test: the scores file and the table."""
        self.reporter.finish_test()

    # ---------------------------------------------------------------- optimizer

    @contextmanager
    def head_hidden(self) -> Iterator[None]:
        """Within, the model's parameters are the host's own."""
        head = self.wrapper._modules.pop(HEAD, None)
        try:
            yield
        finally:
            if head is not None:
                self.wrapper._modules[HEAD] = head

    def follow(self, configured: Any) -> None:
        """Let the head's optimizer follow the host's, found in what ``configure_optimizers`` returned.

        Raises:
            PluginError: if there is no optimizer in it.
        """
        if self.head is None:
            return
        host = _first_optimizer(configured)
        if host is None:
            raise PluginError(f"configure_optimizers of the host returned no optimizer: {type(configured).__name__}.")
        if self.optimizer is not None:
            self.optimizer.remove()
        self.optimizer = HeadOptimizer(
            self.head, host, self.settings.head_lr_multiplier, clip=self._clip_value, scale=self._gradient_scale
        )
        self.restore_optimizer(self._pending_optimizer)

    def restore_optimizer(self, state: dict[str, Any] | None) -> None:
        """Continue the head's optimizer from a checkpoint, now or once it exists."""
        if state is not None and self.optimizer is not None:
            self.optimizer.load_state_dict(state)
            state = None
        self._pending_optimizer = state

    def _clip_value(self) -> float | None:
        return getattr(self.wrapper.trainer, "gradient_clip_val", None)

    def _gradient_scale(self) -> float:
        scaler = getattr(self.wrapper.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())


def _first_optimizer(configured: Any) -> torch.optim.Optimizer | None:
    if isinstance(configured, torch.optim.Optimizer):
        return configured
    if isinstance(configured, dict):
        return _first_optimizer(configured.get("optimizer"))
    if isinstance(configured, (list, tuple)):
        return next((found for item in configured if (found := _first_optimizer(item)) is not None), None)
    return None


def _with_loss(result: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A training step's result, which is a loss or a mapping with one, with the loss changed."""
    if isinstance(result, dict):
        return {**result, "loss": change(result["loss"])}
    return change(result)
