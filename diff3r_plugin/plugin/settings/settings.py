"""Settings under ``diff3r.*`` in a host's Hydra configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from diff3r_plugin.config import TTOConfig
from diff3r_plugin.plugin.errors import PluginError, unknown_name

STAGES = ("train", "val", "test")
CONTEXT_POSES = ("auto", "batch", "estimate", "predicted")

SEARCH_SIZES = (("base_search_every", 0), ("base_search_scenes", 1), ("base_search_inner_steps", 1))

NULLABLE = {f.name for f in fields(TTOConfig) if "None" in str(f.type)}
"""Settings that may be null."""


@dataclass(frozen=True)
class PluginSettings:
    """How the plugin attaches itself; every field but ``tto`` is the key ``diff3r.<field>``.

    Args:
        adapter: Name of the host's adapter, or "auto".
        rasterizer: "auto" (the host's rasterizer if installed, else the drop-in), "host" or "drop_in".
        refine: Stages in which scenes are refined, some of train, val, test.
        refine_extra: Also refine encoder calls made for videos and visualizers, not for losses and metrics.
        warm_up_steps: Host steps before refinement starts; until then the host trains plainly (and the confidence
            head by its supervision, where that is set).
        unrefined_loss: Weight of the unrefined scene's squared error on the target views, added to the host's loss in
            refined training steps; 0 trains the refined scene alone.
        head: "learned" (the uncertainty head predicts the proximal weights) or "fixed" (``weights`` is used).
        head_width: Channels of the head's hidden layers.
        head_cross_view: The uncertainty head also sees what the other views' predictions give in place of a view.
        base_search_every: Refined training steps between two searches for the base weight of each group, which is then
            not learned by its gradient; 0 searches never.
        base_search_scenes: Latest training steps whose scenes a search tries its weights on.
        base_search_inner_steps: Inner steps it tries them with: what is meant to be used at test.
        confidence: "learned" (a head predicts the weight of every context pixel) or "off" (all count alike).
        confidence_supervision: Weight of the confidence's cross entropy against the data's record of corrupted pixels,
            added to the host's loss in refined training steps; 0 trains it by the refined scene alone.
        head_lr_multiplier: Learning rate of the heads, in units of the host's current (largest) one.
        weights: Proximal weight per parameter group: where the head starts, or what "fixed" uses.
        context_poses: "batch" (the context cameras of the data), "estimate" (from the prediction itself, for hosts
            whose encoder does not see them), "predicted" (those in the encoder's output) or "auto" (predicted where
            the host predicts them; for other hosts whose encoder does not see them batch in training, else estimate;
            for the others batch).
        log_every: Training steps between two reports of the metrics that need extra renderings.
        log_images: Scenes of each validation whose images go to the host's logger; 0 for none.
        compare: At test, also optimize every prediction by the customary way: "adam" (Adam with the learning rates of
            3D Gaussian splatting, nothing held) or "off"; the table then has both curves, with seconds.
        compare_steps: Its numbers of steps, one run for all of them.
        eval_steps: At test, numbers of inner steps that every scene is refined with besides ``inner_steps``.
        lpips: "auto" (LPIPS at test by the host, else by torchmetrics, where its weights are at hand) or "off".
        save_pictures: Write context, ground truth, before, after, error and weight maps at test.
        save_scenes: Write unrefined scenes with their views at test, for ``diff3r_plugin.evaluation``.
        save_ply: Write the scenes before and after refinement at test.
        output: Folder for what the plugin writes at test; "" means beside the host's own scores.
        version: Set by the plugin itself, so that saved configurations tell it.
        tto: The fields of :class:`diff3r_plugin.TTOConfig`, which are keys ``diff3r.<field>`` as well.

    Example:
        >>> from diff3r_plugin.plugin.settings.settings import PluginSettings
        >>> PluginSettings.parse({"inner_steps": 3, "refine": "test"}).refine
        ('test',)
    """

    adapter: str = "auto"
    rasterizer: str = "auto"
    refine: tuple[str, ...] = STAGES
    refine_extra: bool = False
    warm_up_steps: int = 0
    unrefined_loss: float = 0.0
    head: str = "learned"
    head_width: int = 32
    head_cross_view: bool = False
    head_lr_multiplier: float = 0.2
    base_search_every: int = 0
    base_search_scenes: int = 8
    base_search_inner_steps: int = 16
    confidence: str = "off"
    confidence_supervision: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)
    context_poses: str = "auto"
    log_every: int = 50
    log_images: int = 1
    compare: str = "off"
    compare_steps: tuple[int, ...] = (50, 200, 1000)
    eval_steps: tuple[int, ...] = ()
    lpips: str = "auto"
    save_pictures: bool = False
    save_scenes: bool = False
    save_ply: bool = False
    output: str = ""
    version: str = ""
    tto: TTOConfig = field(default_factory=TTOConfig)

    def __post_init__(self) -> None:
        _one_of("rasterizer", self.rasterizer, ("auto", "host", "drop_in"))
        _one_of("head", self.head, ("learned", "fixed"))
        _one_of("lpips", self.lpips, ("auto", "off"))
        _one_of("compare", self.compare, ("off", "adam"))
        for name in ("eval_steps", "compare_steps"):
            object.__setattr__(self, name, _step_counts(name, getattr(self, name)))
        if not self.compare_steps:
            raise PluginError("diff3r.compare_steps is empty; leave it out, or name at least one number of steps.")
        _one_of("context_poses", self.context_poses, CONTEXT_POSES)
        for stage in self.refine:
            _one_of("refine", stage, STAGES)
        for name, least in (
            ("warm_up_steps", 0),
            ("head_width", 1),
            ("log_every", 1),
            ("log_images", 0),
            *SEARCH_SIZES,
        ):
            if getattr(self, name) < least:
                raise PluginError(f"diff3r.{name} must be at least {least}, got {getattr(self, name)!r}.")
        _one_of("confidence", self.confidence, ("off", "learned"))
        if self.confidence_supervision and self.confidence == "off":
            raise PluginError("diff3r.confidence_supervision trains a head that diff3r.confidence=learned brings.")
        for name in ("head_lr_multiplier", "unrefined_loss", "confidence_supervision"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise PluginError(f"diff3r.{name} must not be negative, got {getattr(self, name)!r}.")
        for group, weight in self.weights.items():
            if group not in (*self.tto.groups, "poses"):  # poses move, too, where they are estimated
                raise unknown_name("parameter group", f"diff3r.weights.{group}", _weight_keys(self.tto))
            if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 < weight < float("inf"):
                raise PluginError(f"diff3r.weights.{group} must be a positive number, got {weight!r}.")

    @classmethod
    def parse(cls, mapping: Mapping[str, Any] | None) -> PluginSettings:
        """Settings from the contents of a host's ``diff3r`` node.

        Raises:
            PluginError: for an unknown key (with the nearest known one) or a value of the wrong kind or range.
        """
        own = {f.name: f for f in fields(cls) if f.name != "tto"}
        inner = {f.name: f for f in fields(TTOConfig) if f.init}
        mine: dict[str, Any] = {}
        theirs: dict[str, Any] = {}
        for key, value in (mapping or {}).items():
            key = str(key)
            if key in ("confidence", "lpips", "compare") and value is False:  # what YAML makes of a bare off
                value = "off"
            if key in own:
                mine[key] = _converted(key, value, _default(own[key]))
            elif key in inner:
                theirs[key] = _converted(key, value, _default(inner[key]))
            else:
                raise unknown_name("setting", f"diff3r.{key}", [f"diff3r.{name}" for name in (*own, *inner)])
        try:
            tto = TTOConfig(**theirs)
        except (ValueError, TypeError) as error:
            given = ", ".join(f"diff3r.{k}={v!r}" for k, v in theirs.items())
            raise PluginError(f"these settings do not work ({given}): {error}") from error
        return cls(**mine, tto=tto)


def _default(item: Any) -> Any:
    if item.default is not MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not MISSING else None


def _converted(key: str, value: Any, default: Any) -> Any:
    """The value in the type of the default (a number where a number stands, a tuple where a tuple stands, ...)."""
    problem = PluginError(f"diff3r.{key} must be a {_kind(default)}, like {default!r}; got {value!r}.")
    if value is None and key not in NULLABLE:
        raise problem
    if default is None or value is None:
        return tuple(value) if isinstance(value, list) else value
    if isinstance(default, tuple):
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, (list, tuple)):
            raise problem
        return tuple(value)
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping):
            raise problem
        return {str(k): v for k, v in value.items()}
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise problem
        return value
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or int(value) != value:
            raise problem
        return int(value)
    if isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise problem
        return float(value)
    return str(value) if isinstance(default, str) else value


def _step_counts(name: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """Numbers of steps, each once and in order."""
    counts = []
    for value in given:
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise PluginError(f"diff3r.{name} must be a list of whole numbers, like [0,4,16]; got {value!r} in it.")
        counts.append(value)
    return tuple(sorted(set(counts)))


def _kind(default: Any) -> str:
    kinds: dict[type, str] = {bool: "true or false", int: "whole number", float: "number", str: "word", tuple: "list"}
    return kinds.get(type(default), "mapping of names to numbers")


def _weight_keys(tto: TTOConfig) -> list[str]:
    return [f"diff3r.weights.{group}" for group in (*tto.groups, "poses")]


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown_name(f"value of diff3r.{name}:", value, known)
