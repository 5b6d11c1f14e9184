"""Fine-tune a network that has no training loop of its own: any module from images to Gaussians.

* ``prediction``: `Prediction`, what the network answers
* ``batch``: `Batch`, scenes with context and target views
* ``chunk_scenes``: `ChunkScenes`, such scenes from RealEstate10K chunks
* ``fine_tuning``: `FineTuning`, the Lightning module: network, head, layer and losses in a row
* ``similarity``: the data's cameras in the frame that the network predicts in

Needs the extra ``training`` (Lightning, Pillow); `Prediction` and `Batch` do not.
"""

from typing import TYPE_CHECKING, Any

from diff3r_plugin.training.batch import Batch
from diff3r_plugin.training.prediction import Prediction

if TYPE_CHECKING:
    from diff3r_plugin.training.chunk_scenes import ChunkScenes
    from diff3r_plugin.training.fine_tuning import FineTuning

__all__ = ["Batch", "ChunkScenes", "FineTuning", "Prediction"]

_AT_FIRST_USE = {"ChunkScenes": "chunk_scenes", "FineTuning": "fine_tuning"}


def __getattr__(name: str) -> Any:
    if name not in _AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_AT_FIRST_USE[name]}"), name)
