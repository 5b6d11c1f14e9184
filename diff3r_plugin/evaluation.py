"""Refine a saved scene and score it: what a host's test with the plugin does, without the host.

``diff3r.save_scenes=true`` makes a host's test command write each unrefined scene with its context and target views.
Trying settings on such files costs no start of the host, so that a grid of them is a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import TTOInfo
from diff3r_plugin.io.errors import reading
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

FORMAT = 1


@dataclass(frozen=True, eq=False)
class SavedScene:
    """One scene as a network predicted it, and the images to refine it on and to judge it by.

    Args:
        name: The scene's name in its data set.
        gaussians: The prediction, a batch of one.
        context: The views it was predicted from, with images.
        target: The held-out views, with images.
        weights: Proximal weights that a head predicted for the scene; empty without a head.
        confidence: Pixel weights that a head predicted for the context views, ``[1, V, H, W]``; None without one.

    Raises:
        ValueError: if there is more than one scene, or an image is missing.
    """

    name: str
    gaussians: Gaussians
    context: Views
    target: Views
    weights: Mapping[str, Tensor | float] = field(default_factory=dict)
    confidence: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = (self.gaussians.batch_size, self.context.batch_size, self.target.batch_size)
        if sizes != (1, 1, 1):
            raise ValueError(f"A SavedScene holds one scene, got batches of {sizes} (Gaussians, context, target).")
        for kind in ("context", "target"):
            if getattr(self, kind).images is None:
                raise ValueError(f"Scene {self.name!r} needs {kind} images; its {kind} views have none.")

    def save(self, path: Path | str) -> None:
        """Write plain tensors with ``torch.save``."""
        parts = {kind: _tensors(getattr(self, kind)) for kind in ("gaussians", "context", "target")}
        more = {} if self.confidence is None else {"confidence": self.confidence.cpu().clone()}
        content = {"format": FORMAT, "name": self.name, "weights": dict(self.weights), **parts, **more}
        with atomic_write(path) as file:
            torch.save(content, file)

    @classmethod
    def load(cls, path: Path | str) -> SavedScene:
        """Read what :meth:`save` wrote.

        Raises:
            FileError: (a ValueError) if the file is missing, damaged or something else.
        """
        with reading(path, "a saved scene", "Write it again with a host's test and diff3r.save_scenes=true."):
            content = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(content, dict) or content.get("format") != FORMAT:
                raise ValueError(f"it is not one that diff3r.save_scenes=true writes (format {FORMAT})")
            return cls(
                content["name"],
                Gaussians(**content["gaussians"]),
                Views(**content["context"]),
                Views(**content["target"]),
                content["weights"],
                content.get("confidence"),
            )


@dataclass(frozen=True)
class SceneScores:
    """Scores of one scene, means over its target views.

    Args:
        before: ``psnr`` (dB), ``ssim`` and ``psnr_context`` of the prediction.
        after: The same of the refined scene.
        info: What the solver reports.
    """

    before: dict[str, float]
    after: dict[str, float]
    info: TTOInfo


def evaluate(
    scene: SavedScene,
    config: TTOConfig,
    weights: ProximalWeights | Mapping[str, Tensor | float] | float,
    before: Mapping[str, float] | None = None,
    pixel_weights: Tensor | None = None,
) -> SceneScores:
    """Refine a saved scene and score it before and after, as the plugin does at a host's test.

    Args:
        scene: The scene.
        config: How to refine.
        weights: Proximal weights, as :class:`~diff3r_plugin.TTOLayer` takes them.
        before: Scores before refinement, where they are known already.
        pixel_weights: Weight of each context pixel, ``[1, V, H, W]``; those of the scene's ``confidence`` by default.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, TTOConfig, Views
        >>> from diff3r_plugin.evaluation import SavedScene, evaluate
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
        >>> views = Views(torch.eye(4)[None, None], K, torch.rand(1, 1, 3, 16, 16))
        >>> scores = evaluate(SavedScene("one", g, views, views), TTOConfig(inner_steps=2), 0.1)
        >>> scores.after["psnr"] > scores.before["psnr"]
        True
    """
    with torch.no_grad():
        pixel_weights = scene.confidence if pixel_weights is None else pixel_weights
        refined, info = TTOLayer(config)(scene.gaussians, scene.context, weights, pixel_weights)
        known = dict(before) if before is not None else score(scene, scene.gaussians, config.backend)
        return SceneScores(known, score(replace(scene, context=info.views), refined, config.backend), info)


def score(scene: SavedScene, gaussians: Gaussians, backend: str = "auto") -> dict[str, float]:
    """``psnr`` and ``ssim`` of Gaussians on the scene's target views, ``psnr_context`` on its context views."""
    with torch.no_grad():
        target = render(gaussians, scene.target.replace(images=None), backend)
        context = render(gaussians, scene.context.replace(images=None), backend)
    return {
        "psnr": float(psnr(scene.target.given_images, target).mean()),
        "ssim": float(ssim(scene.target.given_images, target).mean()),
        "psnr_context": float(psnr(scene.context.given_images, context).mean()),
    }


def _tensors(part: Gaussians | Views) -> dict[str, object]:
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {k: v.detach().cpu().clone() if isinstance(v, Tensor) else v for k, v in values.items() if v is not None}
