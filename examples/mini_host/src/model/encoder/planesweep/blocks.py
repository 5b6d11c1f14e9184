"""Convolutional building blocks. No batch statistics, so batches of one train."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_block(d_in: int, d_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(d_in, d_out, 3, stride, 1), nn.GroupNorm(max(d_out // 8, 1), d_out), nn.ReLU(inplace=True)
    )


class ResidualBlock(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_block(d, d), nn.Conv2d(d, d, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SmallUNet(nn.Module):
    """Two levels down and up again, with skips; sees about 30 pixels around each one."""

    def __init__(self, d_in: int, d_hidden: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(conv_block(d_in, d_hidden), ResidualBlock(d_hidden))
        self.down1 = nn.Sequential(conv_block(d_hidden, d_hidden, 2), ResidualBlock(d_hidden))
        self.down2 = nn.Sequential(conv_block(d_hidden, d_hidden, 2), ResidualBlock(d_hidden), ResidualBlock(d_hidden))
        self.up1 = conv_block(2 * d_hidden, d_hidden)
        self.up2 = conv_block(2 * d_hidden, d_hidden)

    def forward(self, x: Tensor) -> Tensor:
        full = self.enter(x)
        half = self.down1(full)
        quarter = self.down2(half)
        half = self.up1(torch.cat([F.interpolate(quarter, size=half.shape[-2:], mode="bilinear"), half], 1))
        return self.up2(torch.cat([F.interpolate(half, size=full.shape[-2:], mode="bilinear"), full], 1))


class Backbone(nn.Module):
    """Features of single views, at full and at half resolution."""

    def __init__(self, d_feature: int, d_matching: int) -> None:
        super().__init__()
        self.at_full = nn.Sequential(conv_block(3, d_feature // 2), conv_block(d_feature // 2, d_feature // 2))
        self.at_half = nn.Sequential(conv_block(d_feature // 2, d_feature, 2), ResidualBlock(d_feature))
        self.at_quarter = nn.Sequential(conv_block(d_feature, d_feature, 2), ResidualBlock(d_feature))
        self.merge = conv_block(2 * d_feature, d_feature)
        self.matching = nn.Conv2d(d_feature, d_matching, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Full-resolution features, half-resolution features, half-resolution features for matching."""
        full = self.at_full(images * 2 - 1)
        half = self.at_half(full)
        quarter = F.interpolate(self.at_quarter(half), size=half.shape[-2:], mode="bilinear")
        half = self.merge(torch.cat([half, quarter], 1))
        return full, half, self.matching(half)
