"""Does a host use what was refined? Its own renderings of a test are compared with those of the refined scenes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.metrics import psnr

NEARER = 0.5
"""Share of its distance from the refined rendering within which the host's own lies at the unrefined one if ignored."""

UNCHANGED = 1e-8
"""Mean squared difference of two renderings below which a refinement has changed nothing that could be used."""


class UseCheck:
    """Over all scenes of one test.

    A host may rebuild its scene after the refined call, from numbers that an adapter does not write: its metrics are
    then those of a scene that nobody refined, whatever ours say.
    """

    def __init__(self) -> None:
        self._distances: list[tuple[float, float, float]] = []
        self._psnrs: list[tuple[float, float, float]] = []

    def add(
        self,
        drawn: list[Tensor],
        before: Float[Tensor, "B V 3 H W"],
        after: Float[Tensor, "B V 3 H W"],
        truth: Float[Tensor, "B V 3 H W"],
    ) -> Float[Tensor, " B"] | None:
        """Record one step.

        Args:
            drawn: What the host rendered in it, in its order; its last images of the targets' number and size count, in
                one piece or in several.
            before, after: The target views of the scene before and after refinement, by the host's renderer.
            truth: What they should be.

        Returns:
            PSNR of the host's own renderings; None where it rendered nothing of the kind.
        """
        own = _last(drawn, truth)
        if own is None:
            return None
        changes = [((a - b) ** 2).mean().item() for a, b in ((own, before), (own, after), (before, after))]
        self._distances.append((changes[0], changes[1], changes[2]))
        figures = [psnr(truth, images).mean(-1) for images in (own, before, after)]
        self._psnrs.append((figures[0].mean().item(), figures[1].mean().item(), figures[2].mean().item()))
        return figures[0]

    def problem(self, adapter: str) -> str | None:
        """What is wrong, with the figures of host and plugin; None where the host uses the refined scenes."""
        if not self._distances:
            return None
        before, after, moved = torch.tensor(self._distances, dtype=torch.float64).mean(0).tolist()
        if moved < UNCHANGED or before > NEARER * after:
            return None
        host, unrefined, refined = torch.tensor(self._psnrs, dtype=torch.float64).mean(0).tolist()
        return (
            f"the host does not use what was refined: its own renderings of this test have {host:.2f} dB, those of the "
            f"refined scenes {refined:.2f} dB, of the unrefined ones {unrefined:.2f} dB. Adapter {adapter!r} writes "
            "the refined scene where the host does not read it, or the host rebuilds parts of it afterwards; "
            "with_gaussians must change everything that the host's renderer reads."
        )


def _last(drawn: list[Tensor], truth: Tensor) -> Tensor | None:
    """The last views that a host rendered, as many as there are targets."""
    B, V, *size = truth.shape
    like = [images for images in drawn if images.ndim == 5 and [len(images), *images.shape[2:]] == [B, *size]]
    parts: list[Tensor] = []
    while like and sum(part.shape[1] for part in parts) < V:
        parts.insert(0, like.pop())
    if sum(part.shape[1] for part in parts) < V:
        return None
    return torch.cat(parts, 1)[:, -V:].to(truth)
