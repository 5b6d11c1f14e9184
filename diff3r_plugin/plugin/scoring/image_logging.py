"""Images of validation scenes in the host's own logger: before, after, errors, weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.maps import WHITE_ERROR, WeightMaps, error_images, weight_maps
from diff3r_plugin.metrics import psnr
from diff3r_plugin.plugin.host.host_loop import loop_of
from diff3r_plugin.plugin.host.run_context import RunContext
from diff3r_plugin.plugin.refining.refinement import Refinement
from diff3r_plugin.plugin.refining.step import RefinedCall
from diff3r_plugin.plugin.scoring.measurements import target_renderings

RENDERINGS, MAPS = "diff3r/val/renderings", "diff3r/val/maps"
"""Names of the images in the logger."""

GAP = 2
"""Pixels between two images of a sheet."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Several images side by side.

    Args:
        image: ``[3, H, W]`` in [0, 1].
        caption: What they are, from left to right.
    """

    image: Float[Tensor, "3 H W"]
    caption: str


class ImageLogging:
    """Logs the first scenes of every validation.

    Nothing that goes wrong here ends the host's run: it is said once, and the run continues.

    Args:
        wrapper: The host's LightningModule, whose loggers are used.
        context: The run's settings and adapter.
    """

    def __init__(self, wrapper: Any, context: RunContext) -> None:
        self.wrapper, self.context = wrapper, context
        self._step, self._logged, self._silent = -1, 0, False

    def log(self, call: RefinedCall) -> None:
        """The scenes of one refined call of a validation step, while there are fewer than ``diff3r.log_images``."""
        if self._silent or not self.context.settings.log_images or loop_of(self.wrapper).rank:
            return
        try:
            self._log(call)
        except Exception as error:
            self._say_once(f"{type(error).__name__}: {error}")

    def _log(self, call: RefinedCall) -> None:
        loggers = [logger for logger in getattr(self.wrapper, "loggers", None) or [] if logger is not None]
        if not loggers or self.wrapper.trainer.sanity_checking:
            return
        step = loop_of(self.wrapper).step
        if step != self._step:
            self._step, self._logged = step, 0
        count = min(self.context.settings.log_images - self._logged, call.refinement.gaussians.batch_size)
        if count <= 0:
            return
        sheets = scene_sheets(call, self.context, self.wrapper, count)
        senders = [sender for logger in loggers if (sender := sender_of(logger)) is not None]
        for send in senders:
            for name, of_name in sheets.items():
                if of_name:
                    send(name, of_name, step, self._logged)
        self._logged += count
        if not senders:
            kinds = ", ".join(sorted({type(logger).__name__ for logger in loggers}))
            self._say_once(f"{kinds} takes none, neither by log_image nor by experiment.add_image")

    def _say_once(self, reason: str) -> None:
        self._silent = True
        self.context.say(f"images of validation scenes are not logged ({reason}); diff3r.log_images=0 asks for none.")


Sender = Callable[[str, Sequence[Sheet], int, int], None]
"""Takes a name, sheets, the step, and how many of that name the step has already."""


def sender_of(logger: Any) -> Sender | None:
    """How a logger takes images: as wandb's, as TensorBoard's, or not at all."""
    if callable(getattr(logger, "log_image", None)):

        def log_image(name: str, sheets: Sequence[Sheet], step: int, first: int) -> None:
            key = name if first == 0 else f"{name}_{first}"  # a second call of a step would replace the first
            images = [_bytes(sheet.image).permute(1, 2, 0).contiguous().numpy() for sheet in sheets]
            logger.log_image(key=key, images=images, step=step, caption=[sheet.caption for sheet in sheets])

        return log_image
    experiment: Any = getattr(logger, "experiment", None)
    if callable(getattr(experiment, "add_image", None)):

        def add_image(name: str, sheets: Sequence[Sheet], step: int, first: int) -> None:
            for number, sheet in enumerate(sheets, first):
                experiment.add_image(f"{name}/{number}", _bytes(sheet.image), step)
                if callable(getattr(experiment, "add_text", None)):
                    experiment.add_text(f"{name}/{number}", sheet.caption, step)

        return add_image
    return None


def scene_sheets(call: RefinedCall, context: RunContext, wrapper: Any, count: int) -> dict[str, list[Sheet]]:
    """Two sheets for each of the first ``count`` scenes: renderings of its middle target view; its maps."""
    refinement, adapter = call.refinement, context.adapter
    before, after = target_renderings(adapter, wrapper, refinement, call.batch)
    truth = adapter.target_images(call.batch)
    names = adapter.scene_names(call.batch)
    view = truth.shape[1] // 2
    sheets: dict[str, list[Sheet]] = {RENDERINGS: [], MAPS: []}
    with torch.no_grad():
        for index in range(count):
            images = [tensor[index, view].detach().float() for tensor in (truth, before, after)]
            errors = error_images(torch.stack(images[1:]), images[0])
            gain = [float(psnr(truth[index, view], rendered[index, view])) for rendered in (before, after)]
            caption = (
                f"{names[index]}: truth, before ({gain[0]:.2f} dB), after ({gain[1]:.2f} dB), "
                f"errors before and after (white: {WHITE_ERROR:g})"
            )
            sheets[RENDERINGS].append(Sheet(side_by_side([*images, *errors]), caption))
            maps = _map_sheet(refinement, index, names[index])
            if maps is not None:
                sheets[MAPS].append(maps)
    return sheets


def _map_sheet(refinement: Refinement, index: int, name: str) -> Sheet | None:
    """A row for each context view: its image, its confidence, the weights of its Gaussians; None without maps."""
    views, _, height, width = refinement.context_images.shape[1:]
    maps = weight_maps(refinement.weights.tensors(), index, views, height, width)
    columns, told = [refinement.context_images[index].detach().float()], ["context"]
    if refinement.confidence is not None:
        columns.append(refinement.confidence[index].detach().float()[:, None].expand(-1, 3, -1, -1))
        told.append("confidence (0 to 1)")
    for group, values in maps.items():
        scaled = WeightMaps.of(values)
        columns.append(scaled.images())
        told.append(f"{group} ({scaled.black:.2g} to {scaled.white:.2g})")
    if len(columns) == 1:
        return None
    rows = [side_by_side([column[view] for column in columns]) for view in range(views)]
    gaps = [rows[0].new_ones(3, GAP, rows[0].shape[-1])] * (views - 1)
    stacked = torch.cat([part for pair in zip(rows, [*gaps, rows[0][:, :0]], strict=True) for part in pair], 1)
    return Sheet(stacked, f"{name}: {', '.join(told)}; weights black to white")


def side_by_side(images: Sequence[Float[Tensor, "3 H W"]]) -> Float[Tensor, "3 H W2"]:
    """Images of one size in a row, white between them."""
    first = images[0]
    gap = first.new_ones(3, first.shape[1], GAP)
    parts = [part for image in images for part in (image.to(first.device), gap)]
    return torch.cat(parts[:-1], -1)


def _bytes(image: Float[Tensor, "3 H W"]) -> Tensor:
    return (image.clamp(0, 1) * 255).round().byte().cpu()
