"""Which metrics the images of a test are judged by: the host's own where it has them."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.plugin.host.adapter import HostAdapter, Metric

BACKBONE = "alexnet-owt-7be5be79.pth"
"""What torchvision calls the weights that torchmetrics' LPIPS stands on."""


class ImageMetrics:
    """PSNR, SSIM and, where its weights are at hand, LPIPS of a test's renderings.

    A host has its own SSIM and LPIPS, and the scores here are compared with its own: so these are used. A metric that
    fails (an image smaller than a window, weights that cannot be downloaded) is said once and not tried again.

    Args:
        adapter: Knows the host's metrics.
        lpips: "auto" or "off".
        say: Prints one line.
    """

    def __init__(self, adapter: HostAdapter, lpips: str, say: Callable[[str], None]) -> None:
        self._say = say
        self._ssim: Metric = ssim
        self._lpips: Metric | None = None
        self.sources = {"ssim": "diff3r", "lpips": "off"}
        own = adapter.metric("ssim")
        if own is not None:
            self._ssim, self.sources["ssim"] = own, "host"
        if lpips == "auto":
            self._lpips = adapter.metric("lpips")
            self.sources["lpips"] = "host"
            if self._lpips is None:
                self._lpips, self.sources["lpips"] = self._torchmetrics()

    def __call__(
        self, truth: Float[Tensor, "B V 3 H W"], rendered: Float[Tensor, "B V 3 H W"]
    ) -> dict[str, Float[Tensor, " B"]]:
        """Means over the views of each scene."""
        scores = {"psnr": psnr(truth, rendered).mean(-1), "ssim": self._structure(truth, rendered)}
        if self._lpips is not None:
            try:
                scores["lpips"] = _by_scene(self._lpips, truth, rendered)
            except Exception as error:
                self._lpips, self.sources["lpips"] = None, "failed"
                self._say(f"LPIPS is left out: {_short(error)}. diff3r.lpips=off leaves it out without trying.")
        return scores

    def _structure(self, truth: Tensor, rendered: Tensor) -> Tensor:
        if self._ssim is not ssim:
            try:
                return _by_scene(self._ssim, truth, rendered)
            except Exception as error:
                self._ssim, self.sources["ssim"] = ssim, "diff3r"
                self._say(f"the host's own SSIM cannot judge these images ({_short(error)}); ours is used.")
        return ssim(truth, rendered).mean(-1)

    def _torchmetrics(self) -> tuple[Metric | None, str]:
        """LPIPS by torchmetrics, unless that would download something."""
        if not os.path.isfile(os.path.join(torch.hub.get_dir(), "checkpoints", BACKBONE)):
            self._say(
                f"LPIPS is left out: neither the host has it, nor are the weights {BACKBONE} in "
                f"{os.path.join(torch.hub.get_dir(), 'checkpoints')}. diff3r.lpips=off leaves it out without this line."
            )
            return None, "no weights"
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity as LPIPS

            measure = LPIPS(net_type="alex", normalize=True)
        except Exception as error:
            self._say(f"LPIPS is left out: {_short(error)}.")
            return None, "failed"

        def each(truth: Tensor, rendered: Tensor) -> Tensor:
            measure.to(truth.device)
            return torch.stack([measure(x[None], y[None]) for x, y in zip(truth, rendered.clamp(0, 1), strict=True)])

        return each, "torchmetrics, alex"


def _by_scene(metric: Metric, truth: Tensor, rendered: Tensor) -> Tensor:
    """Means over the views of a metric that takes a flat batch of images in [0, 1]."""
    batch = truth.shape[:2]
    with torch.no_grad():
        values = metric(truth.flatten(0, 1).float(), rendered.flatten(0, 1).float())
    return values.reshape(batch).to(truth.dtype).mean(-1)


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
