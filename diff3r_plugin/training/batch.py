"""Scenes to learn from: what the network sees, and what it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diff3r_plugin.views import Views


@dataclass(frozen=True, eq=False)
class Batch:
    """Context and target views of B scenes, both with images in [0, 1] and the data's cameras in one frame.

    Args:
        context: What the network is given and the refinement fits.
        target: Views that neither of them sees.
        names: Of the scenes.

    Raises:
        ValueError: if images are missing or the numbers of scenes disagree.
    """

    context: Views
    target: Views
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.context.images is None or self.target.images is None:
            raise ValueError("Context and target views of a Batch need their images.")
        scenes = (self.context.batch_size, self.target.batch_size, len(self.names))
        if len(set(scenes)) != 1:
            raise ValueError(f"A Batch has {scenes[0]} scenes of context, {scenes[1]} of targets, {scenes[2]} names.")

    def __len__(self) -> int:
        return len(self.names)

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """``torch.Tensor.to`` on every tensor; Lightning moves batches by it."""
        return Batch(self.context.to(*args, **kwargs), self.target.to(*args, **kwargs), self.names)

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> Batch:
        """Several batches in one: the ``collate_fn`` of a ``DataLoader``. Numbers and sizes of views must agree."""
        return cls(
            _joined([batch.context for batch in batches]),
            _joined([batch.target for batch in batches]),
            tuple(name for batch in batches for name in batch.names),
        )


def _joined(parts: Sequence[Views]) -> Views:
    formations = {(part.antialiased, part.dilation) for part in parts}
    if len(formations) > 1:
        raise ValueError(f"Views of one batch are rendered alike, got (antialiased, dilation) {sorted(formations)}.")
    return Views(
        torch.cat([part.world_to_camera for part in parts]),
        torch.cat([part.intrinsics for part in parts]),
        torch.cat([part.given_images for part in parts]),
        torch.cat([part.near for part in parts]),
        torch.cat([part.far for part in parts]),
        background=parts[0].background,
        antialiased=parts[0].antialiased,
        dilation=parts[0].dilation,
    )
