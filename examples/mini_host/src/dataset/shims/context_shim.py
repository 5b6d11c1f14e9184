"""Fewer context views than the data loader brought."""

import torch

from ..types import BatchedExample, BatchedViews


def keep_outer_views(batch: BatchedExample, count: int) -> BatchedExample:
    """Keep ``count`` context views, evenly picked, the first and the last among them."""
    views = batch["context"]["image"].shape[1]
    if not 2 <= count <= views:
        raise ValueError(f"Can keep 2 to {views} context views, not {count}.")
    kept = torch.linspace(0, views - 1, count).round().long()
    context = BatchedViews(**{name: value[:, kept] for name, value in batch["context"].items()})
    return {**batch, "context": context}
