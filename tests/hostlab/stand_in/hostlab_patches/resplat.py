"""ReSplat with a ResNet that is not downloaded; its DINOv2 is small enough, and begins at random."""

from __future__ import annotations

import sys


def patch_resplat() -> None:
    if "src.model.encoder.encoder_resplat" not in sys.modules:
        return
    import torch
    import torchvision
    from src.model.encoder import layer

    def untrained(pretrained: bool = False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return torchvision.models.resnet18()

    layer.resnet18 = untrained
