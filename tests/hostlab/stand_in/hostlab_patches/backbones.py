"""Small networks in place of downloaded backbones, and hosts that fit them."""

from __future__ import annotations

import os
import sys


def hub_stub(repo: str, model: str):
    if "facebookresearch/dino" not in repo:
        return None
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if model.startswith("dino_resnet"):
            import torchvision

            net = getattr(torchvision.models, model.removeprefix("dino_"))()
            net.fc = torch.nn.Identity()
            return net
        width = {"s": 384, "b": 768, "l": 1024, "g": 1536}
        if model.startswith("dino_vit"):  # dino_vitb8, dino_vits16 ...
            kind = model.removeprefix("dino_vit")
            return _tiny_vit(width[kind[0]], int(kind[1:]), 12)
        if model.startswith("dinov2_vit"):  # dinov2_vits14 ...
            kind = model.removeprefix("dinov2_vit").split("_")[0]
            depth = {"s": 12, "b": 12, "l": 24, "g": 40}[kind[0]]
            return _tiny_vit(width[kind[0]], int(kind[1:]), depth)
    return None


def _tiny_vit(dim: int, patch: int, depth: int):
    """Same token shapes as the real network; `depth` nominal layers, one real one."""
    import torch
    from torch import nn

    class TinyViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_dim = self.num_features = dim
            self.patch_size = patch
            self.n_blocks = depth
            self.patch_embed = nn.Conv2d(3, dim, patch, patch)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.mask_token = nn.Parameter(torch.zeros(1, dim))
            nn.init.normal_(self.cls_token, std=0.02)
            self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
            self.mix = nn.Linear(dim, dim)
            self.norm = nn.LayerNorm(dim)

        def _tokens(self, x):
            x = self.patch_embed(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)
            x = x + self.mix(x.mean(1, keepdim=True))
            return x + self.mlp(x)

        def forward(self, x):
            return self.norm(self._tokens(x))[:, 0]

        def get_intermediate_layers(self, x, n=1, reshape=False, return_class_token=None, norm=True):
            # DINO returns class and patch tokens together; DINOv2 has the
            # `return_class_token` argument and keeps them apart.
            tokens = self._tokens(x)
            if norm:
                tokens = self.norm(tokens)
            count = n if isinstance(n, int) else len(n)
            if return_class_token is None and not reshape:
                return [tokens] * count
            cls, patches = tokens[:, 0], tokens[:, 1:]
            if reshape:
                rows, cols = x.shape[-2] // patch, x.shape[-1] // patch
                patches = patches.transpose(1, 2).reshape(len(x), dim, rows, cols)
            one = (patches, cls) if return_class_token else patches
            return tuple([one] * count)

    return TinyViT()


def shrink_croco() -> None:
    wish = os.environ.get("HOSTLAB_CROCO", "2,10,192")
    if not wish:
        return
    enc, dec, width = (int(x) for x in wish.split(","))
    small = dict(enc_depth=enc, dec_depth=dec, dec_embed_dim=width, dec_num_heads=width // 64)
    for name, module in list(sys.modules.items()):
        table = getattr(module, "croco_params", None) if module is not None else None
        if name.startswith("src.") and isinstance(table, dict):
            for entry in table.values():
                entry.update(small)


def shrink_transplat() -> None:
    predictor = sys.modules.get("src.model.encoder.matching.depth_predictor_trans")
    anything = sys.modules.get("src.depth_anything_v2.dpt")
    if predictor is None or anything is None:
        return
    anything.DINOv2 = lambda model_name: _tiny_vit(768, 14, 12)
    model = anything.DepthAnythingV2
    real = model.load_state_dict

    def load_state_dict(self, state, *args, **kwargs):
        if state:
            return real(self, state, *args, **kwargs)
        # No file (see `libraries.patch_torch`).  The depth is rescaled by its own range, so
        # it must not be cut to zero everywhere by the last ReLU.
        self.depth_head.scratch.output_conv2[2].bias.data.fill_(1.0)

    model.load_state_dict = load_state_dict
    side = int(os.environ.get("HOSTLAB_SIZE", "256")) // 4
    if side != 64:
        new = {64: side, (64, 64): (side, side)}
        for name in ("match_two", "forward"):
            function = getattr(predictor.DepthPredictorTrans, name)
            code = function.__code__
            constants = tuple(new.get(c, c) if isinstance(c, (int, tuple)) else c for c in code.co_consts)
            if constants == code.co_consts:
                raise RuntimeError(f"hostlab: no map size 64 in TransPlat's {name}")
            function.__code__ = code.replace(co_consts=constants)


def plane(height: int, width: int, depth: float):
    """A point for every pixel ``[height, width, 3]``, on a plane before the camera."""
    import torch

    v, u = torch.meshgrid(
        (torch.arange(height) + 0.5) / height - 0.5, (torch.arange(width) + 0.5) / width - 0.5, indexing="ij"
    )
    return torch.stack([u, v, torch.ones_like(u)], -1) * depth


def point_prior(depth: float):
    """Untrained point heads put every point at the origin, where nothing is seen
    and no gradient flows; pretrained ones do not.  Start from a plane instead."""

    def hook(_module, _inputs, out):
        points = out["pts3d"]
        return {**out, "pts3d": points + plane(*points.shape[1:3], depth).to(points)}

    return hook
