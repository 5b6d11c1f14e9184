"""YoNoSplat with few layers, and heads that begin with a scene which all cameras see."""

from __future__ import annotations

import functools
import sys

LAYERS = 2  # of the decoder, which alternates between one view and all


def shrink_yonosplat() -> None:
    encoder = sys.modules.get("src.model.encoder.encoder_yonosplat")
    if encoder is None:
        return
    import torch

    trunk = sys.modules["src.model.encoder.backbone.backbone_local_global"]
    from src.model.encoder.backbone.dinov2.models import vision_transformer

    whole = vision_transformer.vit_large
    count = vision_transformer.DinoVisionTransformer.__init__

    @functools.wraps(count)
    def shallow(self, *arguments, **named):
        count(self, *arguments, **{**named, "depth": 1})

    vision_transformer.DinoVisionTransformer.__init__ = shallow
    assert whole is vision_transformer.vit_large
    trunk.range = lambda number: range(min(number, LAYERS))
    encoder.TransformerDecoder = functools.partial(encoder.TransformerDecoder, depth=1)
    points, poses = encoder.LinearPts3d.forward, encoder.CameraHead.forward

    @functools.wraps(points)
    def on_a_plane(self, decoded, shape):
        out = points(self, decoded, shape)
        rows, columns = (torch.linspace(-0.5, 0.5, size) for size in out.shape[1:3])
        if out.shape[-1] == 3:  # x / z, y / z and ln z
            plane = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))], -1)
            return torch.cat([plane + 0.02 * out[..., :2].tanh(), 1.0 + 0.1 * out[..., 2:].tanh()], -1)
        wide = torch.zeros(out.shape[-1])
        wide[1:4] = 40.0  # softplus times a thousandth: some hundredths
        return out + wide

    @functools.wraps(poses)
    def side_by_side(self, *arguments):
        out = poses(self, *arguments)
        turned = torch.linalg.matrix_exp(0.01 * (out[:, :3, :3] - out[:, :3, :3].mT))
        moved = 0.05 * out[:, :3, 3:].tanh()
        return torch.cat([torch.cat([turned, moved], -1), out[:, 3:]], 1)

    encoder.LinearPts3d.forward, encoder.CameraHead.forward = on_a_plane, side_by_side
