"""A logger that needs no account: metrics as JSON lines, images as files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image


class LocalLogger(Logger):
    """Writes ``metrics.jsonl`` (one object per call, with its ``step``) and ``<key>/<step>.png`` below a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    @property
    def name(self) -> str:
        return "local"

    @property
    def version(self) -> int:
        return 0

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass  # Hydra has written the configuration already

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    @rank_zero_only
    def log_image(self, key: str, images: list[np.ndarray], step: int | None = None, **kwargs: Any) -> None:
        """Save images (8-bit rows, columns, channels)."""
        folder = self.folder / key
        folder.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(images):
            suffix = "" if len(images) == 1 else f"_{index}"
            Image.fromarray(image).save(folder / f"{step or 0:06d}{suffix}.png")


def get_logger(wandb_cfg: dict[str, Any], output_dir: Path, config: Any) -> Logger:
    if wandb_cfg["mode"] == "disabled":
        return LocalLogger(output_dir / "local")
    return WandbLogger(
        entity=wandb_cfg["entity"],
        project=wandb_cfg["project"],
        name=wandb_cfg["name"],
        tags=wandb_cfg["tags"],
        offline=wandb_cfg["mode"] == "offline",
        save_dir=output_dir,
        config=config,
    )
