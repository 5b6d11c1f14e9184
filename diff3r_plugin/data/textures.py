"""Procedural surface textures: color as a function of two surface coordinates in meters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

KINDS = ("noise", "checker", "stripes", "bricks", "planks", "dots", "gradient")
_LATTICE = 32  # side of the table of random numbers behind a texture's noise (a power of two); it repeats after that


@dataclass(frozen=True)
class Texture:
    """One surface's colors; see `sample_texture` for the usual ranges.

    Args:
        kind: One of `KINDS`.
        colors: Two colors that the pattern mixes, ``[2, 3]``, in [0, 1].
        period: Length after which the pattern repeats, meters.
        angle: Rotation of the pattern on the surface, radians.
        lattice: Random numbers in [0, 1], ``[32, 32]``; noise and the tone of single bricks and planks come from it.
        noise_period: Cell of the noise laid over the pattern, meters.
        noise_gain: Peak-to-peak strength of that noise, in units of color.
        gloss: Strength of the highlight, in units of color; 0 is matt.
    """

    kind: str
    colors: Float[ndarray, "2 3"]
    period: float
    angle: float
    lattice: Float[ndarray, "32 32"]
    noise_period: float
    noise_gain: float
    gloss: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Texture kind must be one of {', '.join(KINDS)}; got {self.kind!r}.")


def sample_texture(
    rng: np.random.Generator, kinds: tuple[str, ...] = KINDS, scale: float = 1.0, gloss: float = 0.0
) -> Texture:
    """Draw a texture: two related colors, a pattern of 0.25 to 0.9 m times ``scale``, and noise over it.

    Example:
        >>> import numpy as np
        >>> from diff3r_plugin.data.textures import sample_texture
        >>> sample_texture(np.random.default_rng(0), kinds=("bricks",)).kind
        'bricks'
    """
    base = np.clip(rng.uniform(0.25, 0.8) + rng.normal(0, 0.14, 3), 0.08, 0.95)
    contrast = rng.uniform(0.15, 0.5) * rng.choice([-1.0, 1.0])
    other = np.clip(base + contrast + rng.normal(0, 0.1, 3), 0.03, 0.97)
    return Texture(
        kind=str(rng.choice(kinds)),
        colors=np.stack([base, other]).astype(np.float32),
        period=float(rng.uniform(0.25, 0.9) * scale),
        angle=float(rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.15)),
        lattice=rng.random((_LATTICE, _LATTICE), dtype=np.float32),
        noise_period=float(rng.uniform(0.12, 0.5) * scale),
        noise_gain=float(rng.uniform(0.06, 0.3)),
        gloss=gloss,
    )


def evaluate_texture(
    texture: Texture, u: Float[ndarray, " n"], v: Float[ndarray, " n"], footprint: Float[ndarray, " n"]
) -> Float[ndarray, "n 3"]:
    """Colors at surface points.

    Args:
        u, v: Surface coordinates, meters.
        footprint: Width that a pixel covers there, meters. Detail finer than that fades to its mean, which keeps
            far surfaces from flickering between frames.

    Returns:
        Colors, ``[n, 3]``; mostly in [0, 1], not clamped.
    """
    cos, sin = np.float32(np.cos(texture.angle)), np.float32(np.sin(texture.angle))
    a = (cos * u + sin * v) / np.float32(texture.period)
    b = (cos * v - sin * u) / np.float32(texture.period)
    mix = _pattern(texture, a, b)
    mix = 0.5 + (mix - 0.5) * _visible(texture.period * 0.5, footprint)
    scale = np.float32(1 / texture.noise_period)
    grain = _noise(texture.lattice, u * scale, v * scale) - 0.5
    fine = _noise(texture.lattice, u * (2.3 * scale) + 11.0, v * (2.3 * scale) + 5.0) - 0.5
    grain = grain * _visible(texture.noise_period, footprint)
    grain += 0.5 * fine * _visible(texture.noise_period / 2.3, footprint)
    colors = texture.colors[0] + mix[:, None] * (texture.colors[1] - texture.colors[0])
    return colors + np.float32(texture.noise_gain) * grain[:, None]


def _pattern(texture: Texture, a: ndarray, b: ndarray) -> ndarray:
    """Share of the second color, in [0, 1], at pattern coordinates counted in periods."""
    kind, lattice = texture.kind, texture.lattice
    if kind == "noise":
        coarse = _noise(lattice, a, b) + 0.5 * _noise(lattice, 2 * a + 7.0, 2 * b + 3.0)
        return np.clip((coarse / 1.5 - 0.5) * 2 + 0.5, 0, 1)
    if kind == "checker":
        return ((np.floor(a) + np.floor(b)) % 2).astype(np.float32)
    if kind == "stripes":
        return np.clip(np.sin(np.float32(2 * np.pi) * a) * 3 + 0.5, 0, 1)
    if kind == "gradient":
        return 0.5 + 0.5 * np.sin(np.float32(0.5 * np.pi) * a + np.sin(b))
    if kind == "dots":
        x, y = a - np.floor(a) - 0.5, b - np.floor(b) - 0.5
        return np.clip((0.35 - np.sqrt(x * x + y * y)) * 12, 0, 1)
    rows = 2.5 if kind == "bricks" else 3.0
    length = 1.0 if kind == "bricks" else 4.0
    row = np.floor(b * rows)
    along = a / length + 0.37 * row if kind == "planks" else a + 0.5 * (row % 2)
    cell = np.floor(along)
    tone = lattice[row.astype(np.int64) % _LATTICE, cell.astype(np.int64) % _LATTICE]
    edge = np.minimum((b * rows - row) / rows, (along - cell) * length)
    joint = np.clip(edge * 14, 0, 1)  # thin dark line between bricks or planks
    return joint * (0.25 + 0.75 * tone)


def _noise(lattice: ndarray, x: ndarray, y: ndarray) -> ndarray:
    """Value noise in [0, 1]: random numbers on integer lattice points, smoothly interpolated."""
    floor_x, floor_y = np.floor(x), np.floor(y)
    s, t = x - floor_x, y - floor_y
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    i, j = floor_x.astype(np.int32) & (_LATTICE - 1), floor_y.astype(np.int32) & (_LATTICE - 1)
    i, i1 = i * _LATTICE, ((i + 1) & (_LATTICE - 1)) * _LATTICE
    j1 = (j + 1) & (_LATTICE - 1)
    table = lattice.reshape(-1)
    a, b = table[i + j], table[i + j1]
    low = a + (table[i1 + j] - a) * s
    high = b + (table[i1 + j1] - b) * s
    return low + (high - low) * t


def _visible(detail: float, footprint: ndarray) -> ndarray:
    """1 where detail of that size is well resolved, falling to 0 where a pixel covers all of it."""
    return np.clip(1.6 - footprint / np.float32(detail), 0, 1)
