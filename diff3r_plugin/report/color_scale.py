"""Numbers as colors, with a range that is stated and the same for everything it is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8

from diff3r_plugin.maps import wide_enough


@dataclass(frozen=True)
class ColorScale:
    """A colormap over a range.

    Args:
        low: Value of its first color.
        high: Value of its last color.
        logarithmic: Whether ratios count instead of differences.
        colormap: Name of a matplotlib colormap.
    """

    low: float
    high: float
    logarithmic: bool = False
    colormap: str = "magma"

    @classmethod
    def of_errors(cls, errors: list[Float[np.ndarray, "H W"]]) -> ColorScale:
        """From 0 to the 99.5th percentile of all errors, rounded up to a number one can read."""
        most = float(np.percentile(np.concatenate([error.ravel() for error in errors]), 99.5)) if errors else 0.0
        return cls(0.0, next((step for step in (0.05, 0.1, 0.2, 0.3, 0.5) if most <= step), 1.0))

    @classmethod
    def of_weights(cls, maps: list[Float[np.ndarray, "V H W"]]) -> ColorScale:
        """From the least to the largest weight; wider where they are close.

        Example:
            >>> import numpy as np
            >>> from diff3r_plugin.report.color_scale import ColorScale
            >>> scale = ColorScale.of_weights([np.full((1, 2, 2), 0.01)])
            >>> round(scale.low, 4), round(scale.high, 4)
            (0.005, 0.02)
        """
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
        return cls(*wide_enough(low, high), logarithmic=True, colormap="viridis")

    def colors(self, values: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
        """8-bit colors; what lies outside of the range takes that of its end."""
        low, high = self.low, self.high
        if self.logarithmic:
            values, low, high = np.log(np.maximum(values, 1e-30)), math.log(low), math.log(high)
        share = np.clip((values - low) / (high - low), 0, 1)
        return (matplotlib.colormaps[self.colormap](share)[..., :3] * 255).round().astype(np.uint8)

    def gradient(self) -> str:
        """The scale from left to right, as CSS."""
        stops = matplotlib.colormaps[self.colormap](np.linspace(0, 1, 9))
        return f"linear-gradient(90deg, {', '.join(matplotlib.colors.to_hex(stop) for stop in stops)})"


def described(values: np.ndarray) -> str:
    """The range of a map in words: one number where it is constant to two digits.

    Example:
        >>> import numpy as np
        >>> from diff3r_plugin.report.color_scale import described
        >>> described(np.array([0.01, 0.010001])), described(np.array([0.01, 0.02]))
        ('0.01 everywhere', '0.01 to 0.02')
    """
    low, high = f"{float(values.min()):.2g}", f"{float(values.max()):.2g}"
    return f"{low} everywhere" if low == high else f"{low} to {high}"
