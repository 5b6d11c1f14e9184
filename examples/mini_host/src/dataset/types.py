"""What the data loaders yield."""

from typing import Literal, TypedDict

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Stage = Literal["train", "val", "test"]


class BatchedViews(TypedDict, total=False):
    extrinsics: Float[Tensor, "batch view 4 4"]  # camera-to-world, OpenCV axes
    intrinsics: Float[Tensor, "batch view 3 3"]  # first row in units of the width, second of the height
    image: Float[Tensor, "batch view 3 height width"]  # in [0, 1]
    near: Float[Tensor, "batch view"]
    far: Float[Tensor, "batch view"]
    index: Int64[Tensor, "batch view"]  # frame numbers
    depth: Float[Tensor, "batch view height width"]  # true z-depth; only where the data has it
    corrupted: Bool[Tensor, "batch view height width"]  # pixels corrupted on purpose; only where the data says so


class BatchedExample(TypedDict, total=False):
    context: BatchedViews
    target: BatchedViews
    scene: list[str]
