"""``diff3r demo``, step by step."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from diff3r_plugin.demo import data
from diff3r_plugin.demo.flag import FLAG, fixed_weights, learned_weights, tto_config
from diff3r_plugin.demo.grid import GridPoint, GridSearch, search, search_steps
from diff3r_plugin.demo.host import HostCommand, TrainingLog, host_folder, run
from diff3r_plugin.demo.progress import bar, wide_console
from diff3r_plugin.demo.results import (
    console_table,
    difference_lines,
    paired_difference,
    read_scores,
    versions,
)
from diff3r_plugin.demo.settings import DemoError, DemoSettings
from diff3r_plugin.evaluation import SavedScene
from diff3r_plugin.strict_json import write_json

CURVES = ("loss/total", "train/psnr", "diff3r/psnr_target_before", "diff3r/stationarity")


class Demo:
    """One run of the demonstration.

    Args:
        settings: All sizes.
        console: Where to report; standard output by default.

    Raises:
        DemoError: if the miniature host or the start-up hook is missing.
    """

    def __init__(self, settings: DemoSettings, console: Console | None = None) -> None:
        self.settings = replace(settings, out=settings.out.resolve())
        self.out = self.settings.out
        self.console = console or wide_console()
        self.commands: dict[str, str] = {}
        self.rooms = self.out / "data"
        self.config = tto_config(settings.plugin_words)
        host_folder()
        _require_hook()

    def run(self) -> dict[str, Any]:
        """All of it; returns what ``results.json`` holds."""
        started = time.monotonic()
        shutil.rmtree(self.out / "runs", ignore_errors=True)  # a checkpoint of an earlier run must not pass for ours
        self._make_data()
        runs: dict[str, dict[str, Any]] = {}
        self._heading("Training the miniature host")
        runs["plain"] = self._train("plain", self.settings.steps)
        runs["diff3r"] = self._train("diff3r", self.settings.steps, flag=True)
        seconds = runs["diff3r"]["train_seconds"]
        runs["plain_equal_time"] = self._train("plain_equal_time", 100 * self.settings.steps, max_seconds=seconds)

        self._heading("On the validation scenes: weights and steps for the plain checkpoints, steps for the other")
        grids = {name: self._grid(name) for name in ("plain", "plain_equal_time", "diff3r")}

        self._heading("Testing on held-out scenes")
        own = self.settings.plugin_words
        refinement = {name: fixed_weights(grids[name].best, own) for name in ("plain", "plain_equal_time")}
        refinement["diff3r"] = learned_weights(grids["diff3r"].best, own)
        self._test_all("test", (self.rooms, self.rooms / "evaluation_index_test.json"), runs, refinement)
        also: dict[str, dict[str, Any]] = {}
        for name, root in self.settings.also_test.items():
            place = data.windows(root.resolve(), self.out / f"data_{name}")
            also[name] = {key: {"train_seconds": entry["train_seconds"]} for key, entry in runs.items()}
            self._test_all(f"test_{name}", place, also[name], refinement)

        results = self._results(runs, grids, refinement, also)
        results["total_seconds"] = time.monotonic() - started
        return self._finish(results)

    # ---------------------------------------------------------------- the steps

    def _make_data(self) -> None:
        self._heading("Procedural rooms")
        self._show("data", data.options_command(self.rooms, self.options))
        wrote = data.rooms(self.rooms, self.options, progress=self.console.is_terminal)
        self.console.print("  written" if wrote else "  there already", highlight=False)

    @property
    def options(self):
        """What the data set holds."""
        return replace(self.settings.data, seed=self.settings.seed)

    def _train(self, name: str, steps: int, flag: bool = False, max_seconds: float | None = None) -> dict[str, Any]:
        folder = self.out / "runs" / name
        log = TrainingLog(folder / "local" / "metrics.jsonl")
        log.path.unlink(missing_ok=True)
        arguments = [
            "mode=train",
            *self._shared(),
            f"dataset.roots=[{self.rooms}]",
            f"trainer.max_steps={steps}",
            f"trainer.val_check_interval={self.settings.steps}",
            f"checkpointing.every_n_train_steps={self.settings.steps}",
            f"trainer.log_every_n_steps={max(1, min(10, self.settings.steps // 8))}",
            f"hydra.run.dir={folder}",
        ]
        if max_seconds is not None:
            arguments.append(f"trainer.max_seconds={max_seconds:.1f}")
        if flag:
            arguments += [*FLAG, *self.settings.plugin_words]
        title = {"plain": "plain", "diff3r": "with --plugin diff3r", "plain_equal_time": "plain, equal time"}[name]
        command = HostCommand(f"training {title}", tuple(arguments), folder / "train.log")
        self._show(f"train {name}", command.line())
        started = time.monotonic()
        total = float(steps) if max_seconds is None else max_seconds
        with bar(self.console, f"training {title}", total) as progress:

            def watch() -> None:
                log.read()
                if log.records:
                    latest = log.records[-1]
                    done = float(log.step) if max_seconds is None else min(log.seconds() or 0.0, total)
                    note = f"step {log.step}  loss {latest['loss/total']:.4f}  PSNR {latest.get('train/psnr', 0):.2f}"
                    progress.update(done, note)

            run(command, watch)
        seconds = log.seconds()
        return {
            "train_seconds": time.monotonic() - started if seconds is None else seconds,
            "train_steps": log.step if max_seconds is not None else steps,
            "curves": log.curve(*CURVES),
        }

    def _grid(self, name: str) -> GridSearch:
        folder = self.out / "runs" / name / "validation"
        learned = name == "diff3r"
        arguments = (
            *self._test_arguments(name, "val", (self.rooms, self.rooms / "evaluation_index_val.json"), folder),
            *FLAG,
            *([] if learned else ["diff3r.head=fixed"]),
            "diff3r.inner_steps=0",
            "diff3r.save_scenes=true",
        )
        self._test(f"unrefined scenes of {name}", arguments, folder, self.options.val)
        files = sorted((folder / "diff3r").glob("*/scene.pt"))[: self.settings.grid_scenes]
        scenes = [SavedScene.load(file) for file in files]
        settings = self.settings
        with bar(self.console, f"grid for {name}", None) as progress:
            counter = {"done": 0}

            def on_point(point: GridPoint, total: int) -> None:
                counter["done"] += 1
                if progress.progress is not None and progress.task is not None:
                    progress.progress.update(progress.task, total=total)
                progress.update(counter["done"], f"of {total}: {point.steps} steps, PSNR {point.psnr:.2f}")

            if learned:
                found = search_steps(scenes, self.config, settings.grid_steps, on_point)
            else:
                found = search(
                    scenes, self.config, settings.grid_scales, settings.grid_steps, settings.grid_factors, on_point
                )
        weights = ", ".join(f"{group} {weight:g}" for group, weight in found.best.weights.items())
        self.console.print(
            f"  best of {len(found.points)}: {found.best.steps} steps, {weights or 'learned weights'}; "
            f"PSNR {found.psnr_before:.2f} before, {found.best.psnr:.2f} after",
            highlight=False,
        )
        return found

    def _test_all(
        self,
        kind: str,
        place: tuple[Path, Path],
        runs: dict[str, dict[str, Any]],
        refinement: dict[str, tuple[str, ...]],
    ) -> None:
        scenes = len(json.loads(place[1].read_text()))
        for name in runs:
            folder = self.out / "runs" / name / kind
            arguments = (
                *self._test_arguments(name, "test", place, folder),
                *FLAG,
                *refinement[name],
                "diff3r.save_pictures=true",
            )
            self._test(f"{kind.replace('_', ' on ')} {name}", arguments, folder, scenes)
            runs[name].update(read_scores(folder / "diff3r_scores.json"))

    def _test(self, title: str, arguments: tuple[str, ...], folder: Path, scenes: int) -> None:
        command = HostCommand(title, arguments, folder / "test.log")
        self._show(title, command.line())
        before = time.time()
        with bar(self.console, title, scenes) as progress:

            def watch() -> None:
                written = [p for p in (folder / "diff3r").glob("*") if p.stat().st_mtime >= before]
                progress.update(len(written), f"{len(written)} of {scenes} scenes")

            run(command, watch)

    # ---------------------------------------------------------------- command lines

    def _shared(self) -> tuple[str, ...]:
        return (
            f"seed={self.settings.seed}",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            *self.settings.host_settings,
        )

    def _test_arguments(self, name: str, split: str, place: tuple[Path, Path], folder: Path) -> tuple[str, ...]:
        root, index = place
        return (
            "mode=test",
            *self._shared(),
            f"dataset.roots=[{root}]",
            f"dataset.splits.test={split}",
            "dataset/view_sampler=evaluation",
            f"dataset.view_sampler.index_path={index}",
            f"checkpointing.load={self.out / 'runs' / name / 'checkpoints' / 'last.ckpt'}",
            f"test.output_path={folder}",
            "test.save_image=false",
            f"hydra.run.dir={folder / 'run'}",
        )

    # ---------------------------------------------------------------- what comes out

    def _results(
        self,
        runs: dict[str, dict[str, Any]],
        grids: dict[str, GridSearch],
        refinement: dict[str, tuple[str, ...]],
        also: dict[str, dict[str, Any]],
    ) -> dict[str, Any]:
        results: dict[str, Any] = {**runs}
        results["scenes"] = _common_scenes(runs)
        results["paired_difference"] = {
            name: paired_difference(runs["diff3r"], runs[name]) for name in ("plain", "plain_equal_time")
        }
        results["also"] = {}
        for name, tested in also.items():
            scenes = _common_scenes(tested)
            results["also"][name] = {
                **tested,
                "scenes": scenes,
                "paired_difference": {
                    other: paired_difference(tested["diff3r"], tested[other]) for other in ("plain", "plain_equal_time")
                },
            }
        results["grid"] = {name: grid.as_dict() for name, grid in grids.items()}
        results["refinement_settings"] = {name: list(words) for name, words in refinement.items()}
        results["seed"] = self.settings.seed
        results["settings"] = asdict(self.settings)
        results["versions"] = versions()
        results["commands"] = self.commands
        return results

    def _finish(self, results: dict[str, Any]) -> dict[str, Any]:
        from diff3r_plugin.report import write_report

        self._heading("Results")
        path = self.out / "results.json"
        write_json(path, results)
        report = write_report(self.out)
        self.console.print(console_table(results, f"{len(results['scenes'])} held-out rooms"))
        for line in difference_lines(results):
            self.console.print(line, highlight=False)
        for name, tested in results["also"].items():
            self.console.print(console_table(tested, f"{name}, {len(tested['scenes'])} cases"))
            for line in difference_lines(tested):
                self.console.print(line, highlight=False)
        self.console.print(f"\n{path}\n{report}", highlight=False, soft_wrap=True)
        return results

    def _heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def _show(self, name: str, line: str) -> None:
        self.commands[name] = line
        self.console.print(f"  $ {line}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _common_scenes(runs: dict[str, dict[str, Any]]) -> list[str]:
    """The tested scenes, which must be the same in every run; taken out of the runs' own entries."""
    lists = {name: run.pop("scenes") for name, run in runs.items()}
    first = next(iter(lists.values()))
    if any(scenes != first for scenes in lists.values()):
        raise DemoError(f"the runs were not tested on the same scenes: {lists}")
    return first


def _require_hook() -> None:
    from diff3r_plugin.cli.hook import installed

    if not installed():
        raise DemoError(
            "the start-up hook that reads `--plugin diff3r` is not in this environment; `diff3r hook --install` puts "
            'it there, as does `pip install -e ".[demo]"`.'
        )
