"""Adapter for NoPoSplat."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_plugin.plugin import Expectation, HostAdapter, Tap, hookimpl

ENCODER = "src/model/encoder/encoder_noposplat.py"


class NoPoSplat(PixelSplatFamily):
    """github.com/cvg/NoPoSplat: predicts in the first camera's frame; its encoder does not see the context poses.

    ``diff3r.context_poses`` says where the poses of the refinement come from: those of the batch in training, as the
    host's own loss, and estimated from the prediction in validation and test.
    """

    name = "noposplat"
    repository = "https://github.com/cvg/NoPoSplat"
    verified_commits: tuple[str, ...] = ("9b04307ebe17",)
    encoder_sees_poses = False
    along_rays = False  # the network predicts points
    e3nn_harmonics = False
    fingerprints: tuple[str, ...] = (*PixelSplatFamily.fingerprints, ENCODER)
    expectations: tuple[Expectation, ...] = (
        *PixelSplatFamily.expectations,
        Expectation(
            ENCODER, "EncoderNoPoSplat.forward", ("context", "global_step"), "refining its output", ("Gaussians",)
        ),
    )
    # One head for the first view and one for the others; before the last convolution and its dropout.
    tap: Tap | None = Tap(("gaussian_param_head.dpt.head.0", "gaussian_param_head2.dpt.head.0"), "input", "b c h w")

    def context_images(self, context: Any) -> Tensor:
        return context["image"] * 0.5 + 0.5  # the host normalizes the context (only) to [-1, 1], in place


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [NoPoSplat]
