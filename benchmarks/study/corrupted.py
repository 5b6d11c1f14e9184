"""What the data knows of its corrupted context images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.data.re10k_format import read_split
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.evaluation import SavedScene


def kinds_of(root: Path, split: str) -> dict[str, str]:
    """Scene -> how one of its context images was corrupted; scenes with none are left out."""
    notes = json.loads((root / f"outliers_{split}.json").read_text(encoding="utf-8"))
    return {scene: next(iter(frames.values()))["kind"] for scene, frames in notes.items()}


def oracle(place: TestData) -> Callable[[SavedScene], Float[Tensor, "1 V H W"]]:
    """The pixel weights of an oracle: 0 on what was corrupted, 1 elsewhere."""
    records = read_split(place.root / place.split)
    index = json.loads(place.index.read_text(encoding="utf-8"))

    def weights(scene: SavedScene) -> Float[Tensor, "1 V H W"]:
        clean = records[scene.name]["clean"]
        assert scene.context.images is not None
        known = torch.ones_like(scene.context.images[:, :, 0])
        for view, frame in enumerate(index[scene.name]["context"]):
            for place_of, corrupted_frame in enumerate(clean["frames"].tolist()):
                if corrupted_frame == frame:
                    known[0, view] = (~clean["masks"][place_of]).to(known)
        return known

    return weights
