"""The page of the study on captured scenes: test windows before and after refinement.

It holds photographs, so it lies beside the trainings, not in the repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.captured.roots import scene_of
from benchmarks.study.captured_report import best_customary
from benchmarks.study.captured_trainings import VALIDATION, CapturedTrainings
from benchmarks.study.titles import title
from benchmarks.study.trainings import Training
from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.demo.flag import tto_config
from diff3r_plugin.demo.page import ShownImage
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.layer import TTOLayer
from diff3r_plugin.metrics import psnr
from diff3r_plugin.optimize.customary import CustomaryTTO
from diff3r_plugin.render import render
from diff3r_plugin.report.shown_scene import data_url


@dataclass(frozen=True)
class Row:
    """One training's renderings of a window.

    Args:
        heading: The training and its scores.
        images: Before TTO, then by each way to refine.
    """

    heading: str
    images: list[ShownImage]


@dataclass(frozen=True)
class Window:
    """A window of captured images.

    Args:
        name: Of the window.
        views: Its context images, and the target that the rows render.
        rows: One of each training.
    """

    name: str
    views: list[ShownImage]
    rows: list[Row]


def write_page(
    trainings: CapturedTrainings, found: Mapping[str, Any], made: Mapping[str, Training | None], path: Path
) -> Path:
    """Write the first window of every test scene, refined again as the study did.

    Args:
        trainings: Knows what the checkpoints predict.
        found: What :func:`benchmarks.study.captured.captured` returned.
        made: Unit -> the training behind it (None: the host they start from), in the order of the rows.
        path: File to write.
    """
    scenes = {unit: trainings.captured_scenes(training) for unit, training in made.items()}
    labels = [label for label in next(iter(scenes.values())) if label != VALIDATION]
    sections = {}
    for label in labels:
        picked = first_windows([scene.name for scene in next(iter(scenes.values()))[label]])
        sections[label] = [
            _window({unit: scenes[unit][label][at] for unit in made}, found["units"], made) for at in picked
        ]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = Path(__file__).with_name("captured_page.html.j2").read_text(encoding="utf-8")
    with atomic_write(path) as file:
        file.write(environment.from_string(template).render(sections=sections).encode())
    return path


def first_windows(names: list[str]) -> list[int]:
    """Places of the first window of each scene.

    Example:
        >>> from benchmarks.study.captured_page import first_windows
        >>> first_windows(["a_0", "a_1", "b_0"])
        [0, 2]
    """
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        first.setdefault(scene_of(name), place)
    return list(first.values())


def _window(scenes: Mapping[str, SavedScene], units: Mapping[str, Any], made: Mapping[str, Training | None]) -> Window:
    one = next(iter(scenes.values()))
    middle = one.target.num_views // 2
    views = [shown(image, f"context {number + 1}") for number, image in enumerate(one.context.given_images[0])]
    views.append(shown(one.target.given_images[0, middle], "target, the photograph"))
    return Window(one.name, views, [_row(unit, scene, units[unit], made[unit]) for unit, scene in scenes.items()])


def _row(unit: str, scene: SavedScene, record: Mapping[str, Any], training: Training | None) -> Row:
    """Before, after the layer as validation chose it, and after the customary TTO where that was measured."""
    config = TTOConfig() if training is None else tto_config(training.words)
    choice = record["choice"]
    refined = TTOLayer(replace(config, inner_steps=choice["steps"], stationarity_warning=None))
    with torch.no_grad():
        after = refined(scene.gaussians, scene.context, choice["weights"] or dict(scene.weights), scene.confidence)[0]
    ways = {"before TTO": scene.gaussians, f"the layer, {choice['steps']} steps": after}
    if customary := best_customary(dict(record)):
        _, loss, steps = customary.name.split(", ")
        count = int(steps.removesuffix(" steps"))
        (state,) = CustomaryTTO(steps=(count,), loss=loss).run(scene.gaussians, scene.context)
        ways[f"the customary TTO, {count} steps"] = state.gaussians
    heading = "the host they start from" if training is None else title(unit.rpartition(", seed ")[0])
    return Row(heading, [_rendered(scene, gaussians, way) for way, gaussians in ways.items()])


def _rendered(scene: SavedScene, gaussians: Gaussians, way: str) -> ShownImage:
    with torch.no_grad():
        image = render(gaussians, scene.target.replace(images=None))
    score = float(psnr(scene.target.given_images, image).mean())
    return shown(image[0, scene.target.num_views // 2], f"{way}: {score:.2f} dB")


def shown(image: Float[Tensor, "3 H W"], caption: str) -> ShownImage:
    """A PNG for the page."""
    pixels = (image.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return ShownImage(data_url(pixels), caption)
