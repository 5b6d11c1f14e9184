"""A shallow VGGT with random weights in place of the downloaded one, that predicts a scene which its cameras see."""

from __future__ import annotations

import functools
import os
import sys

LAYERS = 4
"""Of attention within and across views each, and of tokens that the dense heads look at."""

BASELINE = 0.3
"""Between the cameras of neighboring views; random weights predict none."""


def with_plausible_cameras(camera_head: type) -> None:
    """Let a camera head predict views side by side that look ahead; with random weights they would look anywhere."""
    import torch

    real = camera_head.forward

    def forward(self, *args, **kwargs):
        side, ahead = torch.zeros(9), torch.zeros(9)  # translation, quaternion xyzw, fields of view
        side[0], ahead[6:] = BASELINE, 1.0
        found = []
        for encoding in real(self, *args, **kwargs):
            view = torch.arange(encoding.shape[1])[:, None]
            found.append(0.1 * encoding + view * side + ahead)
        return found

    camera_head.forward = forward


def shrink_vggt() -> None:
    """SPFSplatV2's large variant: fewer layers, and no cut in its width, which its encoder has written into it."""
    package = "src.model.encoder.backbone.vggt"
    if f"{package}.models.vggt" not in sys.modules:
        return
    modules = {name: sys.modules[f"{package}.{name}"] for name in (
        "models.aggregator", "models.vggt", "layers.vision_transformer",
        "heads.camera_head", "heads.dpt_head", "heads.dpt_gs_head",
    )}  # fmt: skip
    layers = list(range(LAYERS))
    _always(modules["models.aggregator"].Aggregator, depth=LAYERS)
    _always(modules["layers.vision_transformer"].DinoVisionTransformer, depth=2)
    _always(modules["heads.camera_head"].CameraHead, trunk_depth=1)
    _always(modules["heads.dpt_head"].DPTHead, intermediate_layer_idx=layers)
    _always(modules["heads.dpt_gs_head"].DPTGSHead, intermediate_layer_idx=layers)
    with_plausible_cameras(modules["heads.camera_head"].CameraHead)
    _with_points_on_a_plane(modules["models.vggt"].VGGT)


def shrink_c3g() -> None:
    """The same network in C3G, which takes its tokens alone and has a dense head of its own."""
    package = "src.model.encoder.backbone.vggt"
    if "src.model.encoder.encoder_vggt" not in sys.modules or f"{package}.aggregator" not in sys.modules:
        return
    layers = list(range(LAYERS))
    _always(sys.modules[f"{package}.aggregator"].Aggregator, depth=LAYERS)
    _always(sys.modules[f"{package}.layers.vision_transformer"].DinoVisionTransformer, depth=2)
    _always(sys.modules[f"{package}.heads.camera_head"].CameraHead, trunk_depth=1)
    heads = {sys.modules[f"{package}.heads.dpt_head"].DPTHead, sys.modules["src.model.encoder.encoder_vggt"].DPTHead}
    for head in heads:
        _always(head, intermediate_layer_idx=layers)


def _always(made: type, **sizes: object) -> None:
    real = made.__init__

    @functools.wraps(real)
    def init(self, *args, **kwargs):
        real(self, *args, **{**kwargs, **sizes})

    made.__init__ = init


def _with_points_on_a_plane(network: type) -> None:
    from hostlab_patches.backbones import plane

    real = network.__init__

    @functools.wraps(real)
    def init(self, *args, **kwargs):
        real(self, *args, **kwargs)
        depth = float(os.environ.get("HOSTLAB_POINT_PRIOR", "8"))
        if depth > 0:
            self.point_head.register_forward_hook(
                lambda _module, _inputs, out: (out[0] + plane(*out[0].shape[-3:-1], depth).to(out[0]), out[1])
            )

    network.__init__ = init
