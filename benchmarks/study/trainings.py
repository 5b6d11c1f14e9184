"""Trainings of the miniature host, and the scenes that their checkpoints predict; each made once and kept."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.results_file import ResultsFile
from benchmarks.study.settings import StudySettings
from diff3r_plugin.demo import data
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.demo.flag import FLAG
from diff3r_plugin.demo.host import HostCommand, TrainingLog, run
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.strict_json import write_json

Say = Callable[[str], None]


@dataclass(frozen=True)
class Training:
    """A finished training.

    Args:
        name: Of the variant.
        seed: Its seed.
        checkpoint: What it ended in.
        words: The plugin's words on its command line; empty for a plain one.
        seconds: Of its loop.
        steps: How many it made.
        cpu_seconds: Of its whole process, start and imports included, on all cores; 0 where it was not recorded.
    """

    name: str
    seed: int
    checkpoint: Path
    words: tuple[str, ...]
    seconds: float
    steps: int
    cpu_seconds: float = 0.0


class Trainings:
    """Makes trainings and scenes below ``settings.out``.

    Args:
        settings: All sizes.
        say: Takes one line of progress.

    Attributes:
        choices: How to refine what each training predicts, as validation rooms chose it.
    """

    def __init__(self, settings: StudySettings, say: Say) -> None:
        self.settings, self.say = settings, say
        views = settings.context_views
        self.choices = ResultsFile(settings.out / f"choices_{views}views.json", settings.identity())

    @property
    def tested_views(self) -> int:
        """Context views at test."""
        return self.settings.context_views

    def root(self, corrupted: bool = False) -> Path:
        """Data root of the rooms, written if need be."""
        root = self.settings.out / ("rooms_corrupted" if corrupted else "rooms")
        if data.rooms(root, self.settings.rooms(corrupted), progress=False):
            self.say(f"wrote {root}")
        return root

    def root_with_depths(self) -> Path:
        """Data root of other rooms, with their depths, written if need be."""
        root = self.settings.out / "rooms_depths"
        if data.rooms(root, self.settings.rooms_with_depths(), progress=False):
            self.say(f"wrote {root}")
        return root

    def fine_tune(
        self,
        name: str,
        seed: int,
        words: Sequence[str] = (),
        *,
        corrupted: bool = False,
        max_seconds: float | None = None,
        longer: int = 1,
    ) -> Training:
        """Fine-tune the checkpoint of the settings for their steps, or for as many as fit into ``max_seconds``.

        Args:
            name: Of the variant.
            seed: Of the training.
            words: The plugin's, on the command line; none for a plain training.
            corrupted: Whether on corrupted images.
            max_seconds: Instead of a number of steps.
            longer: Times as many steps as the settings say.
        """
        settings, root = self.settings, self.root(corrupted)
        folder = settings.out / "trainings" / f"{name}_{settings.context_views}views_seed{seed}"
        steps = longer * settings.steps if max_seconds is None else 1000 * settings.steps
        arguments = (
            *self.training_arguments(folder, root, seed, steps),
            *([] if max_seconds is None else [f"trainer.max_seconds={max_seconds:.1f}"]),
            *((*FLAG, *words) if words else ()),
        )
        checkpoint, record = folder / "checkpoints" / "last.ckpt", folder / "done.json"
        if not _done(record, arguments):
            self.say(f"training {name}, seed {seed}")
            log = TrainingLog(folder / "local" / "metrics.jsonl")
            log.path.unlink(missing_ok=True)
            spent = cpu_seconds_of_children()
            whole = run(HostCommand(f"training {name}", arguments, folder / "train.log"), log.read)
            seconds, spent = log.seconds(), cpu_seconds_of_children() - spent
            done = {"seconds": whole if seconds is None else seconds, "steps": log.step, "cpu_seconds": spent}
            write_json(record, {"arguments": arguments, **done})
        found = json.loads(record.read_text(encoding="utf-8"))
        spent = found.get("cpu_seconds", 0.0)
        return Training(name, seed, checkpoint, tuple(words), found["seconds"], found["steps"], spent)

    def training_arguments(self, folder: Path, root: Path, seed: int, steps: int) -> tuple[str, ...]:
        """What every training from the checkpoint has on its command line, with or without the plugin."""
        settings = self.settings
        return (
            "mode=train",
            f"seed={seed}",
            f"data_loader.train.seed={seed}",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            f"dataset.roots=[{root}]",
            f"dataset.view_sampler.num_context_views={settings.context_views}",
            f"trainer.max_steps={steps}",
            f"trainer.val_check_interval={steps}",
            "trainer.num_sanity_val_steps=0",
            f"checkpointing.load={settings.checkpoint}",
            "checkpointing.resume=false",
            f"checkpointing.every_n_train_steps={steps}",
            f"optimizer.lr={settings.learning_rate:g}",
            "optimizer.warm_up_steps=10",
            f"hydra.run.dir={folder}",
        )

    def scenes(
        self,
        training: Training | None,
        split: str,
        place: TestData | None = None,
        label: str = "",
        limit: int | None = None,
    ) -> list[SavedScene]:
        """What a checkpoint (by default the one that all start from) predicts for a split, unrefined.

        Args:
            training: Whose checkpoint.
            split: "val" or "test" of the rooms, unless ``place`` says where else.
            place: Another data set.
            label: Of the data set, for the folder's name.
            limit: The first so many alone.
        """
        settings = self.settings
        place = place or TestData.rooms(self.root(), split)
        name = "start" if training is None else f"{training.name}_seed{training.seed}"
        folder = settings.out / "scenes" / f"{name}_{self.tested_views}views_{label or split}"
        checkpoint = settings.checkpoint if training is None else training.checkpoint
        words = training.words if training is not None else ()
        arguments = (
            "mode=test",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            f"dataset.roots=[{place.root}]",
            f"dataset.splits.test={place.split}",
            "dataset/view_sampler=evaluation",
            f"dataset.view_sampler.index_path={self.index(place, folder)}",
            f"dataset.view_sampler.num_context_views={self.tested_views}",
            f"checkpointing.load={checkpoint}",
            f"test.output_path={folder}",
            "test.save_image=false",
            f"hydra.run.dir={folder / 'run'}",
            *FLAG,
            *(word for word in words if not word.startswith(NOT_AT_TEST)),
            *([] if words else ["diff3r.head=fixed"]),
            "diff3r.inner_steps=0",
            "diff3r.save_scenes=true",
        )
        record = folder / "done.json"
        if not _done(record, arguments) or (
            training is not None and record.stat().st_mtime < training.checkpoint.stat().st_mtime
        ):
            self.say(f"scenes of {name}, {label or split}")
            run(HostCommand(f"scenes of {name}", arguments, folder / "test.log"))
            write_json(record, {"arguments": arguments})
        files = sorted((folder / "diff3r").glob("*/scene.pt"))
        return [SavedScene.load(file) for file in files[:limit]]

    def index(self, place: TestData, folder: Path) -> Path:
        """The evaluation index with as many context views as the settings say."""
        count = self.settings.context_views
        if count == 2:
            return place.index
        index = json.loads(place.index.read_text(encoding="utf-8"))
        path = folder / "evaluation_index.json"
        write_json(path, {scene: with_more_views(views, count) for scene, views in index.items()})
        return path


NOT_AT_TEST = (
    "diff3r.inner_steps=",
    "diff3r.warm_up_steps=",
    "diff3r.unrefined_loss=",
    "diff3r.confidence_supervision=",
)


def cpu_seconds_of_children() -> float:
    """Processor time of all processes that were started from here and have ended; other work does not lengthen it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def with_more_views(views: dict[str, list[int]], count: int) -> dict[str, list[int]]:
    """One scene's views with ``count`` context frames: the outer two, and free frames as evenly between as may be.

    Raises:
        ValueError: if too few frames lie between that are not targets.

    Example:
        >>> from benchmarks.study.trainings import with_more_views
        >>> with_more_views({"context": [0, 9], "target": [3, 5]}, 4)
        {'context': [0, 2, 6, 9], 'target': [3, 5]}
    """
    first, last = views["context"][0], views["context"][-1]
    free = [frame for frame in range(first + 1, last) if frame not in views["target"]]
    chosen: list[int] = []
    for k in range(1, count - 1):
        wanted = first + k * (last - first) / (count - 1)
        left = [frame for frame in free if frame not in chosen]
        if not left:
            raise ValueError(
                f"No {count} context views fit between frames {first} and {last} beside {views['target']}."
            )
        chosen.append(min(left, key=lambda frame: abs(frame - wanted)))
    return {"context": [first, *sorted(chosen), last], "target": views["target"]}


def _done(record: Path, arguments: tuple[str, ...]) -> bool:
    return record.is_file() and json.loads(record.read_text(encoding="utf-8"))["arguments"] == list(arguments)
