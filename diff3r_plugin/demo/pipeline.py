"""``diff3r demo``, step by step."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from diff3r_plugin.demo import data
from diff3r_plugin.demo.commands import HostArguments
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.demo.flag import FLAG, fixed_weights, learned_weights, tto_config
from diff3r_plugin.demo.grid import GridPoint, GridSearch, search, search_steps
from diff3r_plugin.demo.host import HostCommand, TrainingLog, host_folder, pretrained_weights, run
from diff3r_plugin.demo.progress import bar, wide_console
from diff3r_plugin.demo.results import TITLES, Comparison, DemoResults, TestedScenes, Training, versions
from diff3r_plugin.demo.settings import TOO_SHORT, DemoError, DemoSettings
from diff3r_plugin.demo.table import console_table, difference_lines
from diff3r_plugin.evaluation import SavedScene
from diff3r_startup.installation import installed

CURVES = ("loss/total", "train/psnr", "diff3r/psnr_target_before", "diff3r/stationarity")


class Demo:
    """One run of the demonstration.

    Args:
        settings: All sizes.
        console: Where to report; standard output by default.

    Raises:
        DemoError: if the miniature host, its pretrained weights or the start-up hook is missing.
    """

    def __init__(self, settings: DemoSettings, console: Console | None = None) -> None:
        self.settings = replace(settings, out=settings.out.resolve())
        self.out, self.runs = self.settings.out, self.settings.out / "runs"
        self.rooms = self.out / "data"
        self.console = console or wide_console()
        self.commands: dict[str, str] = {}
        self.arguments = HostArguments(self.settings, self.rooms, self.runs)
        host_folder()
        if settings.fine_tune:
            pretrained_weights()
        _require_hook()

    def run(self) -> DemoResults:
        """All of it; also written to ``results.json`` and ``report.html``."""
        started = time.monotonic()
        if self.settings.quick:
            self._heading(f"{TOO_SHORT}: this run only shows that every step works here.")
        shutil.rmtree(self.runs, ignore_errors=True)  # a checkpoint of an earlier run must not pass for ours
        self._make_data()

        tuning = "Fine-tuning the pretrained" if self.settings.fine_tune else "Training the"
        self._heading(f"{tuning} miniature host")
        trainings = {"plain": self._train("plain", self.settings.steps)}
        trainings["diff3r"] = self._train("diff3r", self.settings.steps, (*FLAG, *self.settings.plugin_arguments))
        trainings["plain_equal_time"] = self._train(
            "plain_equal_time", 100 * self.settings.steps, max_seconds=trainings["diff3r"].seconds
        )

        self._heading("Validation scenes: weights and number of steps for the plain checkpoints, steps for the other")
        grids = {name: self._grid(name) for name in TITLES}

        self._heading("Testing on held-out scenes")
        overrides = self.settings.plugin_arguments
        refinement = {name: fixed_weights(grids[name].best, overrides) for name in ("plain", "plain_equal_time")}
        refinement["diff3r"] = learned_weights(grids["diff3r"].best, overrides)
        rooms = self._compare("test", TestData.rooms(self.rooms, "test"), refinement)
        also = {
            name: self._compare(f"test_{name}", data.windows(root.resolve(), self.out / f"data_{name}"), refinement)
            for name, root in self.settings.also_test.items()
        }
        results = DemoResults(
            seed=self.settings.seed,
            total_seconds=time.monotonic() - started,
            trainings=trainings,
            rooms=rooms,
            also=also,
            grids=grids,
            refinement_settings={name: list(overrides) for name, overrides in refinement.items()},
            settings=asdict(self.settings),
            versions=versions(),
            commands=self.commands,
        )
        self._finish(results)
        return results

    # ---------------------------------------------------------------- the steps

    def _make_data(self) -> None:
        self._heading("Procedural rooms")
        options = replace(self.settings.data, seed=self.settings.seed)
        self._show("data", data.options_command(self.rooms, options))
        wrote = data.rooms(self.rooms, options, progress=self.console.is_terminal)
        self.console.print("  written" if wrote else "  there already", highlight=False)

    def _train(
        self, name: str, steps: int, overrides: tuple[str, ...] = (), *, max_seconds: float | None = None
    ) -> Training:
        log = TrainingLog(self.runs / name / "local" / "metrics.jsonl")
        arguments = (*self.arguments.training(name, steps, max_seconds), *overrides)
        title = f"training {TITLES[name]}"
        command = HostCommand(title, arguments, self.runs / name / "train.log")
        self._show(f"train {name}", command.line())
        started = time.monotonic()
        total = float(steps) if max_seconds is None else max_seconds
        with bar(self.console, title, total) as progress:

            def watch() -> None:
                log.read()
                if log.records:
                    latest = log.records[-1]
                    done = float(log.step) if max_seconds is None else min(log.seconds() or 0.0, total)
                    note = f"step {log.step}  loss {latest['loss/total']:.4f}  PSNR {latest.get('train/psnr', 0):.2f}"
                    progress.update(done, note)

            run(command, watch)
        seconds = log.seconds()
        return Training(
            seconds=time.monotonic() - started if seconds is None else seconds,
            steps=log.step if max_seconds is not None else steps,
            curves=log.curves(*CURVES),
        )

    def _grid(self, name: str) -> GridSearch:
        """Search on the validation scenes: the weights, too, for a checkpoint that has not learned any."""
        settings, learned = self.settings, name == "diff3r"
        folder = self.runs / name / "validation"
        rooms = TestData.rooms(self.rooms, "val")
        overrides = ("diff3r.inner_steps=0", "diff3r.save_scenes=true", *([] if learned else ["diff3r.head=fixed"]))
        self._test(f"unrefined scenes of {name}", name, rooms, folder, overrides)
        files = sorted((folder / "diff3r").glob("*/scene.pt"))[: settings.grid_scenes]
        scenes = [SavedScene.load(file) for file in files]
        config = tto_config(settings.plugin_arguments)
        with bar(self.console, f"grid for {name}", None) as progress:

            def on_point(point: GridPoint, done: int, total: int) -> None:
                progress.update(done, f"{point.steps} steps, PSNR {point.psnr:.2f}", total)

            if learned:
                found = search_steps(scenes, config, settings.grid_steps, on_point)
            else:
                found = search(
                    scenes, config, settings.grid_scales, settings.grid_steps, settings.grid_factors, on_point
                )
        weights = ", ".join(f"{group} {weight:g}" for group, weight in found.best.weights.items())
        self.console.print(
            f"  best of {len(found.points)}: {found.best.steps} steps, {weights or 'learned weights'}; "
            f"PSNR {found.psnr_before:.2f} before, {found.best.psnr:.2f} after",
            highlight=False,
        )
        return found

    def _compare(self, kind: str, scenes: TestData, refinement: dict[str, tuple[str, ...]]) -> Comparison:
        """Test every training's checkpoint on a data set."""
        tests = {}
        for name, overrides in refinement.items():
            folder = self.runs / name / kind
            title = f"{kind.replace('_', ' on ')} {name}"
            self._test(title, name, scenes, folder, (*overrides, "diff3r.save_pictures=true"))
            tests[name] = TestedScenes.read(folder / "diff3r_scores.json")
        return Comparison.of(tests)

    def _test(self, title: str, name: str, scenes: TestData, folder: Path, overrides: tuple[str, ...]) -> None:
        arguments = (*self.arguments.test(name, scenes, folder), *FLAG, *overrides)
        command = HostCommand(title, arguments, folder / "test.log")
        self._show(title, command.line())
        before, total = time.time(), scenes.count()
        with bar(self.console, title, total) as progress:

            def watch() -> None:
                written = [p for p in (folder / "diff3r").glob("*") if p.stat().st_mtime >= before]
                progress.update(len(written), f"{len(written)} of {total} scenes")

            run(command, watch)

    # ---------------------------------------------------------------- what comes out

    def _finish(self, results: DemoResults) -> None:
        from diff3r_plugin.demo.page import write_report

        self._heading("Results" if not self.settings.quick else f"Results. {TOO_SHORT}")
        path = self.out / "results.json"
        results.save(path)
        report = write_report(self.out)
        sets = {"held-out rooms": results.rooms, **{f"cases of {name}": found for name, found in results.also.items()}}
        for name, comparison in sets.items():
            self.console.print(console_table(comparison, results.trainings, f"{len(comparison.scenes)} {name}"))
            for line in difference_lines(comparison):
                self.console.print(line, highlight=False)
        self.console.print(f"\n{path}\n{report}", highlight=False, soft_wrap=True)

    def _heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]")

    def _show(self, name: str, line: str) -> None:
        self.commands[name] = line
        self.console.print(f"  $ {line}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _require_hook() -> None:
    if not installed():
        raise DemoError(
            "the start-up hook that reads `--plugin diff3r` is not in this environment; `diff3r hook --install` puts "
            'it there, as does `pip install -e ".[demo]"`.'
        )
