"""Hosts that predict Gaussians for some of the context views only, which they choose anew in every call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diff3r_plugin.containment import ordinary
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.views import Views


@dataclass(frozen=True)
class ViewChoice:
    """Where an encoder says which of the context views its Gaussians stand on.

    Args:
        module: Dotted path of a submodule below the encoder that is called (not its ``forward``); an encoder without
            it predicts for all views.
        item: Which item of its output holds the indices ``[B, C]`` of the chosen views, in the Gaussians' order.
    """

    module: str
    item: int


class ChosenViews:
    """Reads the latest choice of an encoder.

    Args:
        encoder: The host's encoder.
        choice: Where to read; None: the Gaussians stand on all context views.
    """

    def __init__(self, encoder: nn.Module, choice: ViewChoice | None) -> None:
        self.choice = choice
        self._kept: Any = None
        self._handle = None
        if choice is not None and choice.module in dict(encoder.named_modules()):
            self._handle = encoder.get_submodule(choice.module).register_forward_hook(self._keep)

    @property
    def active(self) -> bool:
        """Whether this encoder chooses among its views."""
        return self._handle is not None

    def of(self, views: Views) -> Views:
        """Those of the context views that the Gaussians of the latest call stand on, in the Gaussians' order.

        Raises:
            PluginError: if the module was not called since, or what it returned holds no indices of views.
        """
        if not self.active:
            return views
        assert self.choice is not None
        kept, self._kept = self._kept, None
        if kept is None:
            raise PluginError(f"the encoder did not call {self.choice.module}; which views it chose cannot be told.")
        try:
            index = kept[self.choice.item]
        except (IndexError, KeyError, TypeError):
            index = None
        if not _are_indices(index, views.batch_size):
            raise PluginError(
                f"{self.choice.module} was expected to return indices of {views.batch_size} scenes' views as item "
                f"{self.choice.item}; found {_described(index)}. diff3r.head=fixed does without them."
            )
        if int(index.min()) < 0 or int(index.max()) >= views.num_views:
            raise PluginError(
                f"{self.choice.module} chose views {index.tolist()}, but there are {views.num_views} context views."
            )
        return selected(views, ordinary(index))

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._kept = output


def selected(views: Views, index: Int[Tensor, "B C"]) -> Views:
    """The views at these indices, one row of them for each scene.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Views
        >>> from diff3r_plugin.plugin.host.chosen_views import selected
        >>> eye = torch.eye(4).expand(1, 3, 4, 4)
        >>> views = Views(eye, torch.eye(3).expand(1, 3, 3, 3), near=torch.tensor([[1.0, 2, 3]]), image_size=(2, 2))
        >>> selected(views, torch.tensor([[2, 0]])).near.tolist()
        [[3.0, 1.0]]
    """
    rows = torch.arange(len(index), device=index.device)[:, None]

    def chosen(tensor: Tensor) -> Tensor:
        return tensor[rows, index]

    return Views(
        chosen(views.world_to_camera),
        chosen(views.intrinsics),
        None if views.images is None else chosen(views.images),
        chosen(views.near),
        chosen(views.far),
        views.image_size,
        views.background,
        views.antialiased,
        views.dilation,
    )


def _are_indices(value: Any, scenes: int) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2 and len(value) == scenes and not value.is_floating_point()


def _described(value: Any) -> str:
    return f"shape {list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
