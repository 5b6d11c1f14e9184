"""The images, maps and Gaussians of one tested scene, from whatever the test wrote of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import read_ply
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.maps import weight_maps
from diff3r_plugin.render import render
from diff3r_plugin.report.run_folder import ReportError
from diff3r_plugin.views import Views

Pixels = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, eq=False)
class SceneImages:
    """What there is to see of a scene; lists over views, empty where nothing was written.

    Args:
        context: The images it was predicted from and refined on.
        truth: Images of the target views.
        before: The target views rendered from the prediction.
        after: The same from the refined scene.
        weights: Proximal weights of each pixel's Gaussians per group, where they differ by pixel.
        confidence: Weight of every context pixel.
        gaussians: The scene before and after refinement.
        camera: The first context view, where it is known.
    """

    context: list[Pixels] = field(default_factory=list)
    truth: list[Pixels] = field(default_factory=list)
    before: list[Pixels] = field(default_factory=list)
    after: list[Pixels] = field(default_factory=list)
    weights: Mapping[str, Float[np.ndarray, "V H W"]] = field(default_factory=dict)
    confidence: Float[np.ndarray, "V H W"] | None = None
    gaussians: tuple[Gaussians, Gaussians] | None = None
    camera: Views | None = None

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any], stem: str = "") -> SceneImages:
        """Images as they were written; whatever is missing, from ``scene.pt``.

        The refined scene is that of ``after.ply``; without one, the prediction is refined again with the same settings.

        Args:
            folder: Of the scene, in the output of a test.
            settings: The effective settings of the test, by their keys without ``diff3r.``.
            stem: Beginning of the names of one view's images, in a folder with those of several.

        Raises:
            ReportError: if a file is there but cannot be read.
        """
        try:
            if stem:
                start = re.escape(stem)
                truth, before, after = (_images(folder, rf"{start}_{n}()") for n in ("truth", "before", "after"))
                return cls([], truth, before, after)
            return cls._read(folder, settings)
        except (
            OSError,
            EOFError,
            ValueError,
            TypeError,
            KeyError,
            RuntimeError,
            SyntaxError,
            UnpicklingError,
        ) as error:
            raise ReportError(f"{stem or folder.name}: {error}") from error

    @classmethod
    def _read(cls, folder: Path, settings: Mapping[str, Any]) -> SceneImages:
        context = _images(folder, r"context_(\d+)")
        sides = [_images(folder, rf"target_(\d+)_{name}") for name in ("truth", "before", "after")]
        whole = min(map(len, sides))  # a test that was cut off may have written some of a view's images
        truth, before, after = (side[:whole] for side in sides)
        weights, confidence = _maps(folder / "maps.pt")
        gaussians = camera = None
        if (folder / "scene.pt").is_file():
            saved = SavedScene.load(folder / "scene.pt")
            kept = folder / "after.ply"
            refined = read_ply(kept) if kept.is_file() else _refined(saved, settings)
            gaussians, camera = (saved.gaussians, refined), saved.context
            if not weights:
                maps = weight_maps(saved.weights, 0, saved.context.num_views, *saved.context.image_size)
                weights = {group: values.numpy() for group, values in maps.items()}
            if confidence is None and saved.confidence is not None:
                confidence = saved.confidence[0].float().numpy()
            if not context:
                context = _pixels(saved.context.images)
            if not after:
                cameras, backend = saved.target.replace(images=None), str(settings.get("backend", "auto"))
                truth = _pixels(saved.target.images)
                before, after = (_pixels(render(scene, cameras, backend)) for scene in gaussians)
        return cls(context, truth, before, after, weights, confidence, gaussians, camera)

    def errors(self, view: int) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
        """Mean absolute difference to the ground truth over the color channels, in [0, 1], before and after."""
        truth = self.truth[view].astype(np.float32)
        before, after = (
            np.abs(image.astype(np.float32) - truth).mean(-1) / 255 for image in (self.before[view], self.after[view])
        )
        return before, after


def _refined(scene: SavedScene, settings: Mapping[str, Any]) -> Gaussians:
    """The scene refined as the test did."""
    known = {f.name for f in fields(TTOConfig) if f.init}
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in known}
    if "poses" in scene.weights:  # the context poses are not the data's: they were refined, too
        given["groups"] = tuple(dict.fromkeys((*given.get("groups", TTOConfig().groups), "poses")))
    config = TTOConfig(**{**given, "stationarity_warning": None})
    with torch.no_grad():
        return TTOLayer(config)(scene.gaussians, scene.context, dict(scene.weights), scene.confidence)[0]


def _images(folder: Path, pattern: str) -> list[Pixels]:
    """The PNG files whose name fits, in the order of the number in it."""
    matches = [(match, path) for path in folder.glob("*.png") if (match := re.fullmatch(pattern, path.stem))]
    found = []
    for _, path in sorted((int(match[1] or 0), path) for match, path in matches):
        with Image.open(path) as image:
            found.append(np.asarray(image.convert("RGB")))
    return found


def _maps(path: Path) -> tuple[dict[str, Float[np.ndarray, "V H W"]], Float[np.ndarray, "V H W"] | None]:
    if not path.is_file():
        return {}, None
    content = torch.load(path, map_location="cpu", weights_only=True)
    confidence = content.get("confidence")
    weights = {group: maps.float().numpy() for group, maps in content["weights"].items()}
    return weights, None if confidence is None else confidence.float().numpy()


def _pixels(images: Tensor | None) -> list[Pixels]:
    assert images is not None
    scaled = (images[0].detach().float().clamp(0, 1) * 255).round().byte()
    return list(scaled.permute(0, 2, 3, 1).contiguous().numpy())
