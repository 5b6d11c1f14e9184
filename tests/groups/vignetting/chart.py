"""The chart of an eighth group: lenses darken towards the corners, by a factor exp(θ r²) of each view's own."""

import torch


def squared_radius(rendering):
    """r² of each pixel, 1 in the corners; ``[H, W]``."""
    y, x = (torch.linspace(-1, 1, n, dtype=rendering.dtype) for n in rendering.shape[-2:])
    return (y[:, None] ** 2 + x**2) / 2


class VignettingChart:
    def apply(self, theta, rendering):
        return (theta[..., None, None] * squared_radius(rendering)).exp() * rendering

    def at(self, theta, rendering):
        return Vignetted(theta, rendering)


class Vignetted:
    def __init__(self, theta, rendering):
        radius = squared_radius(rendering)
        self.slope = (theta[..., None, None] * radius).exp()
        self.image = self.slope * rendering
        self._by_theta = radius * self.image

    def jvp(self, own):
        return self._by_theta * own[..., None, None]

    def vjp(self, cotangent):
        return (self._by_theta * cotangent).sum((-3, -2, -1))[..., None]

    def gram_diagonal(self, pixel_weights):
        return (pixel_weights[:, :, None] * self._by_theta**2).sum((-3, -2, -1))[..., None]
