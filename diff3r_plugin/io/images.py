"""Images from files, in [0, 1]; and their sizes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.io.errors import FileError, reading, require

KIND, CURE = "an image", "Give a whole JPEG or PNG file."
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
LARGEST = 1 << 28
"""Pixels of an image that is opened at all."""
ORIENTATION = 0x0112
"""The EXIF tag that says how a photograph is to be turned for looking at it."""
QUARTER_TURNS = (5, 6, 7, 8)
"""Its values that swap width and height."""


def read_image(
    source: Path | str | bytes,
    size: tuple[int, int] | None = None,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    name: Path | str | None = None,
    turned: bool = False,
) -> Float[Tensor, "3 H W"]:
    """An image in [0, 1], resized with an area-preserving filter where a size is asked for.

    Args:
        source: The file, or its bytes.
        size: (H, W) to bring it to; its own by default.
        background: Color behind transparent pixels, in [0, 1].
        name: What errors call bytes.
        turned: Turn it as its EXIF orientation says; otherwise pixels are taken as they are stored, which is what
            COLMAP, nerfstudio and instant-ngp do.

    Raises:
        FileError: if it is damaged, no image, or has more than eight bits a channel.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.

    Example:
        >>> import tempfile, torch
        >>> from diff3r_plugin.io import read_image, write_image
        >>> path = Path(tempfile.mkdtemp()) / "gray.png"
        >>> write_image(path, torch.full((3, 4, 6), 0.2))
        >>> read_image(path, size=(2, 3))[0]
        tensor([[0.2000, 0.2000, 0.2000],
                [0.2000, 0.2000, 0.2000]])
    """
    place = _place(source, name)
    pillow = require("PIL.Image", "Reading images")
    with reading(place, KIND, CURE):
        # From memory: a damaged length then asks for no more than there is.
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        image = _opened(pillow, content, place)
        if turned:
            image = require("PIL.ImageOps", "Reading images").exif_transpose(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            color = tuple(round(255 * c) for c in background)
            rgba = image.convert("RGBA")
            image = pillow.new("RGBA", rgba.size, (*color, 255))
            image.alpha_composite(rgba)
        image = image.convert("RGB")
        if size is not None and (image.height, image.width) != tuple(size):
            shrinks = size[0] <= image.height and size[1] <= image.width
            kind = pillow.Resampling.BOX if shrinks else pillow.Resampling.BICUBIC
            image = image.resize((size[1], size[0]), kind)
        pixels = np.array(image)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def image_size(source: Path | str | bytes, name: Path | str | None = None) -> tuple[int, int]:
    """(H, W) of an image, from its header.

    Raises:
        FileError: if it is no image.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    place = _place(source, name)
    pillow = require("PIL.Image", "Reading images")
    with reading(place, KIND, CURE), _opened(pillow, source, place) as image:
        return image.height, image.width


def exif_orientation(source: Path | str | bytes, name: Path | str | None = None) -> int:
    """How a photograph is to be turned, 1 to 8 as EXIF has it; 1 where it says nothing.

    Raises:
        FileError: if it is no image.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    place = _place(source, name)
    pillow = require("PIL.Image", "Reading images")
    with reading(place, KIND, CURE), _opened(pillow, source, place) as image:
        found = image.getexif().get(ORIENTATION, 1)
        return found if found in range(1, 9) else 1


def read_mask(
    source: Path | str, size: tuple[int, int], ignored: Literal["black", "white"] = "black", turned: bool = False
) -> Float[Tensor, "H W"]:
    """How much of each pixel a mask keeps, 0 to 1.

    Args:
        source: The file. A pixel is black where all of its channels are zero, and white otherwise.
        size: (H, W) to bring it to, by areas.
        ignored: "black" as COLMAP's and nerfstudio's masks, "white" as instant-ngp's dynamic masks.
        turned: See :func:`read_image`.

    Raises:
        FileError: if it is damaged or no image.
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    place = _place(source, None)
    pillow = require("PIL.Image", "Reading masks")
    with reading(place, KIND, CURE):
        image = _opened(pillow, Path(source).read_bytes(), place)
        if turned:
            image = require("PIL.ImageOps", "Reading masks").exif_transpose(image)
        pixels = np.array(image.convert("RGB" if image.mode != "L" else "L"))
    white = torch.from_numpy((pixels if pixels.ndim == 2 else pixels.max(-1)) != 0).float()
    kept = white if ignored == "black" else 1 - white
    if kept.shape == tuple(size):
        return kept
    return F.interpolate(kept[None, None], size=tuple(size), mode="area")[0, 0]


def write_image(path: Path | str, image: Float[Tensor, "3 H W"]) -> None:
    """Write an image in [0, 1] as PNG, in one go; what lies outside is clipped.

    Raises:
        MissingPackageError: without the extra ``diff3r-plugin[refine]``.
    """
    pillow = require("PIL.Image", "Writing images")
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    with atomic_write(path) as file:
        pillow.fromarray(pixels).save(file, "PNG")


def _place(source: Path | str | bytes, name: Path | str | None) -> Path:
    return Path(name if name is not None else "image" if isinstance(source, bytes) else source)


def _opened(pillow: Any, source: Path | str | bytes, place: Path) -> Any:
    image = pillow.open(BytesIO(source) if isinstance(source, bytes) else source)
    if image.width * image.height > LARGEST:
        raise FileError(place, f"it claims to have {image.width} x {image.height} pixels.", CURE)
    if image.mode not in EIGHT_BIT:
        raise FileError(place, f"its pixels are of mode {image.mode!r}.", "Convert it to eight bits a channel.")
    return image
