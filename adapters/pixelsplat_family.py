"""What pixelSplat and the hosts that grew from it share."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter
from diff3r_plugin.plugin.host.adapter import Metric
from diff3r_plugin.render.spherical_harmonics import from_e3nn_order, to_e3nn_order

MODEL_WRAPPER = "src/model/model_wrapper.py"
DECODER = "src/model/decoder/decoder_splatting_cuda.py"

RASTERIZER_NEAR = 0.2
"""The family's rasterizers render nothing nearer than this (in the units they are given)."""


class PixelSplatFamily(HostAdapter):
    """Base of the adapters for pixelSplat's family.

    Attributes:
        e3nn_harmonics: Whether the host's SH are in e3nn's order (it rotates them with e3nn) or in the usual one.
        scale_invariant: Whether the host's decoder rescales each scene so that near becomes 1 (where the decoder has
            no switch of its own, ``make_scale_invariant``).
        evaluated: How many coefficients of each color the host's rasterizer evaluates, whatever the host predicts.
    """

    e3nn_harmonics: bool = True
    scale_invariant: bool = True
    evaluated: int = 16
    along_rays = True
    draws = "decoder.forward"
    unrefined = ("render_video_generic", "encoder_visualizer.visualize")
    fingerprints: tuple[str, ...] = (MODEL_WRAPPER, "src/main.py", "src/model/types.py", DECODER)
    expectations: tuple[Expectation, ...] = (
        Expectation("src/model/types.py", "Gaussians", ("means", "covariances", "harmonics", "opacities"), "the scene"),
        Expectation(MODEL_WRAPPER, "ModelWrapper.__init__", ("encoder", "decoder", "losses"), "attaching the head"),
        Expectation(MODEL_WRAPPER, "ModelWrapper.training_step", ("batch", "batch_idx"), "refining in training"),
        Expectation(MODEL_WRAPPER, "ModelWrapper.validation_step", ("batch", "batch_idx"), "refining in validation"),
        Expectation(MODEL_WRAPPER, "ModelWrapper.test_step", ("batch", "batch_idx"), "refining at test"),
        Expectation(MODEL_WRAPPER, "ModelWrapper.configure_optimizers", (), "training the head"),
        Expectation(
            DECODER,
            "DecoderSplattingCUDA.forward",
            ("gaussians", "extrinsics", "intrinsics", "near", "far", "image_shape"),
            "rendering targets before refinement",
        ),
    )

    # ---------------------------------------------------------------- the host's objects

    def encoder(self, wrapper: nn.Module) -> nn.Module:
        return wrapper.encoder  # type: ignore[return-value]

    def scene(self, output: Any) -> Any:
        """The host's Gaussians dataclass in an encoder's output."""
        return output

    def with_scene(self, output: Any, scene: Any) -> Any:
        """The same kind of output with another scene."""
        return scene

    def gaussians(self, output: Any, scenes: int, call: Call = NO_CALL) -> Gaussians:
        scene = self.scene(output)
        harmonics = scene.harmonics[..., : self.evaluated]
        return Gaussians(
            scene.means,
            scene.covariances,
            scene.opacities,
            self._turned(harmonics, to_standard=True),
        )

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        scene = self.scene(output)
        harmonics = self._turned(refined.harmonics, to_standard=False)
        untouched = scene.harmonics[..., self.evaluated :]  # never rendered, so never refined
        if untouched.shape[-1]:
            harmonics = torch.cat([harmonics, untouched.to(harmonics)], -1)
        changed = dataclasses.replace(
            scene,
            means=refined.means,
            covariances=refined.covariances,
            harmonics=harmonics,
            opacities=refined.opacities,
        )
        return self.with_scene(output, changed)

    def _turned(self, harmonics: Float[Tensor, "B N 3 K"], to_standard: bool) -> Float[Tensor, "B N 3 K"]:
        if not self.e3nn_harmonics:
            return harmonics
        return from_e3nn_order(harmonics) if to_standard else to_e3nn_order(harmonics)

    # ---------------------------------------------------------------- cameras and images

    def context_images(self, context: Any) -> Float[Tensor, "B V 3 H W"]:
        """The context images in [0, 1]."""
        return context["image"]

    def context_views(self, wrapper: nn.Module, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        images = self.context_images(context)
        height, width = images.shape[-2:]
        near = context["near"]
        if not self.encoder_sees_poses and "extrinsics" not in context:  # images alone are enough for such a host
            cameras = near.new_full((*near.shape, 4, 4), math.nan)
        else:
            cameras = world_to_camera(context["extrinsics"])
        return Views(
            cameras,
            self.pixel_intrinsics(wrapper, context["intrinsics"], height, width),
            images,
            near=self.near_plane(wrapper, near),
            background=self.background(wrapper),
        )

    def pixel_intrinsics(
        self, wrapper: nn.Module, normalized: Float[Tensor, "B V 3 3"], height: int, width: int
    ) -> Float[Tensor, "B V 3 3"]:
        """The cameras that the host's decoder renders with, in pixels."""
        return symmetric_intrinsics(normalized, height, width)

    def near_plane(self, wrapper: nn.Module, near: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """Depths up to which the host's decoder renders nothing, in the data's units."""
        scale_invariant = getattr(wrapper.decoder, "make_scale_invariant", self.scale_invariant)
        return RASTERIZER_NEAR * near if scale_invariant else torch.full_like(near, RASTERIZER_NEAR)

    def background(self, wrapper: nn.Module) -> Any:
        """The color behind all Gaussians."""
        return getattr(wrapper.decoder, "background_color", (0.0, 0.0, 0.0))

    def corrupted_pixels(self, batch: Any) -> Bool[Tensor, "B V H W"] | None:
        return batch["context"].get("corrupted")

    def target_images(self, batch: Any) -> Float[Tensor, "B V 3 H W"]:
        return batch["target"]["image"]

    def render_targets(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Float[Tensor, "B V 3 H W"]:
        return self.rendered(wrapper, output, batch["target"])

    def render_context(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Float[Tensor, "B V 3 H W"]:
        return self.rendered(wrapper, output, batch["context"])

    def rendered(self, wrapper: Any, output: Any, cameras: Any) -> Float[Tensor, "B V 3 H W"]:
        """The host's own rendering of an encoder's output, for the context or the target views of a batch."""
        height, width = cameras["image"].shape[-2:]
        named = ("extrinsics", "intrinsics", "near", "far")
        return wrapper.decoder.forward(self.scene(output), *(cameras[name] for name in named), (height, width)).color

    def metric(self, name: str) -> Metric | None:
        """``compute_NAME`` of the host's own metrics, if the host has imported them."""
        return getattr(sys.modules.get("src.evaluation.metrics"), f"compute_{name}", None)

    def checkpoint(self, wrapper: nn.Module, config: Any) -> str | None:
        loaded = super().checkpoint(wrapper, config)
        if loaded is not None or not hasattr(config, "get"):
            return loaded
        return (config.get("checkpointing") or {}).get("load")

    def scores_folder(self, wrapper: nn.Module, config: Any) -> Path:
        return Path(wrapper.test_cfg.output_path) / config["wandb"]["name"]  # type: ignore[union-attr,arg-type]


def world_to_camera(extrinsics: Float[Tensor, "B V 4 4"]) -> Float[Tensor, "B V 4 4"]:
    """Inverse of the family's camera-to-world matrices (OpenCV axes), computed in float64."""
    return torch.linalg.inv(extrinsics.double()).to(extrinsics.dtype)


def scaled_intrinsics(normalized: Float[Tensor, "B V 3 3"], height: int, width: int) -> Float[Tensor, "B V 3 3"]:
    """The pinhole in pixels as the data has it, principal point and all, for hosts that render with gsplat."""
    return normalized * normalized.new_tensor([width, height, 1.0])[:, None]


def symmetric_intrinsics(normalized: Float[Tensor, "B V 3 3"], height: int, width: int) -> Float[Tensor, "B V 3 3"]:
    """The pinhole that the family's decoders render with, in pixels.

    They take the angle between the rays through the middles of opposite image edges and build a symmetric frustum
    with it, whatever the principal point says; for a principal point in the middle that is the camera as given.
    """
    inverse = torch.linalg.inv(normalized.double())

    def angle(first: tuple[float, float], second: tuple[float, float]) -> Float[Tensor, "B V"]:
        rays = inverse @ inverse.new_tensor([[first[0], second[0]], [first[1], second[1]], [1.0, 1.0]])
        a, b = (rays / rays.norm(dim=-2, keepdim=True)).unbind(-1)
        return torch.linalg.vector_norm(a - b, dim=-1).div(2).asin().mul(2)  # 2 asin(|a-b|/2): accurate for small ones

    intrinsics = torch.zeros_like(inverse)
    intrinsics[..., 0, 0] = 0.5 * width / torch.tan(0.5 * angle((0.0, 0.5), (1.0, 0.5)))
    intrinsics[..., 1, 1] = 0.5 * height / torch.tan(0.5 * angle((0.5, 0.0), (0.5, 1.0)))
    intrinsics[..., 0, 2] = 0.5 * width
    intrinsics[..., 1, 2] = 0.5 * height
    intrinsics[..., 2, 2] = 1
    return intrinsics.to(normalized.dtype)
