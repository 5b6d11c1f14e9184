"""Adapter for DepthSplat."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin import Gaussians
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_depthsplat.py"


class DepthSplat(PixelSplatFamily):
    """github.com/cvg/depthsplat: returns a dict with depths, or bare Gaussians if ``return_depth`` is off.

    While training with several scales its batch holds the scenes of every intermediate depth first and the final ones
    last; only the final ones are refined, the others keep supervising the network directly.
    """

    name = "depthsplat"
    repository = "https://github.com/cvg/depthsplat"
    verified_commits: tuple[str, ...] = ("2dad25a7b9ba",)
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(
            ENCODER,
            "EncoderDepthSplat.forward",
            ("context", "global_step"),
            "refining its output",
            ("Gaussians", "dict"),
        ),
    )
    tap: Tap | None = Tap(("gaussian_head",), "input", "(b v) c h w")

    def scene(self, output: Any) -> Any:
        return output["gaussians"] if isinstance(output, dict) else output

    def with_scene(self, output: Any, scene: Any) -> Any:
        return {**output, "gaussians": scene} if isinstance(output, dict) else scene

    def refinable(self, output: Any) -> bool:
        return self.scene(output) is not None  # train_depth_only predicts no Gaussians

    def gaussians(self, output: Any, scenes: int, call: Call = NO_CALL) -> Gaussians:
        return super().gaussians(_last(self.scene(output), scenes), scenes)

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        scene, count = self.scene(output), refined.batch_size
        final = super().with_gaussians(_last(scene, count), refined)
        if len(scene.means) > count:
            joined = {name: torch.cat([value[:-count], getattr(final, name)]) for name, value in _tensors(scene)}
            final = dataclasses.replace(scene, **joined)
        return self.with_scene(output, final)

    def rendered(self, wrapper: Any, output: Any, cameras: Any) -> Tensor:
        return super().rendered(wrapper, _last(self.scene(output), len(cameras["near"])), cameras)

    def scores_folder(self, wrapper: Any, config: Any) -> Path:
        configured = wrapper.test_cfg.output_path
        return Path(config["output_dir"]) / "metrics" if configured is None else Path(configured)


def _last(scene: Any, count: int) -> Any:
    """The last scenes of a batch; the batch itself where it holds no others."""
    if len(scene.means) == count:
        return scene
    return dataclasses.replace(scene, **{name: value[-count:] for name, value in _tensors(scene)})


def _tensors(scene: Any) -> Iterator[tuple[str, Tensor]]:
    """The fields of a scene that hold a batch; variants of the host keep notes beside them."""
    return ((name, value) for name, value in vars(scene).items() if isinstance(value, Tensor))


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [DepthSplat]
