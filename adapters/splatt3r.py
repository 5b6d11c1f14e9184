"""Adapter for Splatt3R."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import RASTERIZER_NEAR, symmetric_intrinsics, world_to_camera
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, Tap, hookimpl
from diff3r_plugin.render.spherical_harmonics import from_e3nn_order, to_e3nn_order

DECODER = "src/pixelsplat_src/decoder_splatting_cuda.py"
NEAR = 0.1  # what the decoder is told; it divides scenes by it before it rasterizes


class Splatt3R(HostAdapter):
    """github.com/btsmart/splatt3r: MASt3R with Gaussians, in the frame of the first of two views; no Hydra.

    The LightningModule is its own encoder: ``forward(view1, view2)`` gives a dictionary each. Batches hold view lists.
    """

    name = "splatt3r"
    repository = "https://github.com/btsmart/splatt3r"
    wrapper = "main:MAST3RGaussians"
    hydra = False
    encoder_sees_poses = False
    fingerprints: tuple[str, ...] = ("main.py", "workspace.py", DECODER)
    expectations: tuple[Expectation, ...] = (
        Expectation("main.py", "MAST3RGaussians.forward", ("view1", "view2"), "refining its output", ("tuple of 2",)),
        *(
            Expectation("main.py", f"MAST3RGaussians.{stage}_step", ("batch", "batch_idx"), f"refining in {stage}")
            for stage in ("training", "validation", "test")
        ),
        Expectation("main.py", "MAST3RGaussians.configure_optimizers", (), "training the head"),
        Expectation(
            DECODER, "DecoderSplattingCUDA.forward", ("batch", "pred1", "pred2", "image_shape"), "rendering targets"
        ),
    )
    # before the last layers of the Gaussian branch of either view's head
    tap: Tap | None = Tap(
        tuple(f"encoder.downstream_head{n}.gaussian_dpt.dpt.head.0" for n in (1, 2)), "input", "b c h w"
    )

    def encoder(self, wrapper: nn.Module) -> nn.Module:
        return wrapper

    def context_of(self, call: Call) -> Any:
        return [*call.arguments, *call.named.values()]

    def context_views(self, wrapper: Any, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        return self._views(wrapper, context, context[0])

    def target_views(self, wrapper: Any, batch: Any, output: Any, call: Call = NO_CALL) -> Views:
        return self._views(wrapper, batch["target"], batch["context"][0])

    def _views(self, wrapper: Any, views: Any, first: Any) -> Views:
        """These views in the frame of the first one of the context."""
        images = torch.stack([view["original_img"] for view in views], 1)
        height, width = images.shape[-2:]
        poses = torch.stack([view["camera_pose"] for view in views], 1).float()
        intrinsics = torch.stack([view["camera_intrinsics"] for view in views], 1)[..., :3, :3].float()
        size = intrinsics.new_tensor([width, height, 1.0])[:, None]
        return Views(
            world_to_camera(poses) @ first["camera_pose"].float()[:, None],
            symmetric_intrinsics(intrinsics / size, height, width),
            images,
            near=RASTERIZER_NEAR * NEAR,
            background=wrapper.decoder.background_color,
        )

    def gaussians(self, output: Any, scenes: int, call: Call = NO_CALL) -> Gaussians:
        return Gaussians(
            _of_both(output, "means"),
            _of_both(output, "covariances"),
            _of_both(output, "opacities")[..., 0],
            from_e3nn_order(_of_both(output, "sh")),
        )

    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        size = (2, *output[0]["means"].shape[1:3])
        changed = {
            "means": refined.means,
            "covariances": refined.covariance_matrices,
            "opacities": refined.opacities[..., None],
            "sh": to_e3nn_order(refined.harmonics),
        }
        maps = {name: value.unflatten(1, size).unbind(1) for name, value in changed.items()}
        return tuple(
            {**prediction, **{_name(prediction, key): value[number] for key, value in maps.items()}}
            for number, prediction in enumerate(output)
        )

    def target_images(self, batch: Any) -> Tensor:
        return torch.stack([view["original_img"] for view in batch["target"]], 1)

    def render_targets(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return wrapper.decoder(batch, *output, self.target_images(batch).shape[-2:])[0]

    def render_context(self, wrapper: Any, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        return self.render_targets(wrapper, output, {**batch, "target": batch["context"]})

    def scores_folder(self, wrapper: Any, config: Any) -> Path:
        return Path(wrapper.config.save_dir)


def _name(prediction: Any, key: str) -> str:  # the second view's means say whose frame they are in
    return "means_in_other_view" if key == "means" and "means" not in prediction else key


def _of_both(output: Any, key: str) -> Tensor:
    return torch.cat([prediction[_name(prediction, key)].flatten(1, 2) for prediction in output], 1)


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [Splatt3R]
