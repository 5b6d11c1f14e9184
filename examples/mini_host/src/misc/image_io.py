"""Images to files."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def prep_image(image: Float[Tensor, "3 height width"]) -> np.ndarray:
    """An image in [0, 1] as 8-bit rows, columns, channels."""
    return (image.detach().clip(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).cpu().numpy()


def save_image(image: Float[Tensor, "3 height width"], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(prep_image(image)).save(path)
