"""Part 4: the miniature host on the device. ``python -m benchmarks.gpu.training --out FILE --seconds S [--cpu]``.

Trains it plainly, resumes from that with the flag, and tests the result on held-out rooms before and after
refinement: seconds per step with and without the flag, and PSNR. Rooms, runs and logs go to a temporary folder.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.record import SKIPPED, TRUNCATED, Budget, Record, recorded
from diff3r_plugin.data.options import DataOptions
from diff3r_plugin.mean_and_error import MeanAndError

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "examples" / "mini_host"

NEEDED = ("lightning", "hydra", "dacite", "beartype", "jaxtyping", "einops", "numpy", "PIL", "yaml", "rich", "tqdm")
"""Modules that the miniature host and the reading of its results import (the extra ``demo``)."""

POLL_SECONDS = 0.1
TAIL_LINES = 30


@dataclass(frozen=True)
class Plan:
    """Sizes of the run.

    Args:
        plain_steps: Steps without the flag.
        flag_steps: Steps with the flag, each of them refined.
        rooms: Options of the data set.
        settings: Further settings of the host.
        accelerator: Of the host's trainer.
        least: Steps with the flag below which the time was too short.
    """

    plain_steps: int
    flag_steps: int
    rooms: DataOptions
    settings: tuple[str, ...]
    accelerator: str
    least: int


FULL = Plan(300, 300, DataOptions(train=64, val=1, test=8, frames=16, size=64, supersample=2), (), "gpu", 100)
DRY_RUN = Plan(
    4,
    3,
    DataOptions(train=2, val=1, test=2, frames=12, size=32, supersample=1),
    ("dataset.image_shape=[32,32]",),
    "cpu",
    1,
)


def missing() -> list[str]:
    """Modules that are not there."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def staged(folder: Path) -> list[str]:
    """Entries for PYTHONPATH that make the checkout look installed to the host's process.

    Ours, the drop-in rasterizer, and, made in ``folder`` where they are missing, the adapters under their package's
    name and the metadata with their entry point.
    """
    from diff3r_plugin.drop_in import SITE

    folder.mkdir(parents=True)
    if importlib.util.find_spec("diff3r_adapters") is None:
        (folder / "diff3r_adapters").symlink_to(ROOT / "adapters", target_is_directory=True)
    if not any(point.name == "mini_host" for point in importlib.metadata.entry_points(group="diff3r")):
        information = folder / "diff3r_plugin-0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: diff3r-plugin\nVersion: 0\n")
        (information / "entry_points.txt").write_text("[diff3r]\nmini_host = diff3r_adapters.mini_host\n")
    return [str(folder), str(SITE), str(ROOT)]


class Host:
    """Runs the miniature host's command lines.

    Args:
        folder: Where everything goes.
        plan: Sizes.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self._path = staged(folder / "site")

    def run(self, name: str, *arguments: str, flag: bool = False) -> float | None:
        """Run it in a folder of its own; returns the seconds that a training's steps took, by the pace of its reports.

        Raises:
            RuntimeError: if it fails, with the end of what it printed.
        """
        from diff3r_plugin.cli.run import environment
        from diff3r_plugin.demo.host import TrainingLog

        folder = self.folder / name
        folder.mkdir()
        log, metrics = folder / "log.txt", TrainingLog(folder / "local" / "metrics.jsonl")
        path = os.pathsep.join([*self._path, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
        own = dict(os.environ)
        if flag:
            own = environment("diff3r")  # as `diff3r run` does: the start-up hook need not be installed
            path = os.pathsep.join([own["PYTHONPATH"].split(os.pathsep)[0], path])
        else:
            own.pop("DIFF3R_PLUGIN", None)
        command = [sys.executable, "-m", "src.main", "+experiment=re10k", *self._common(folder), *arguments]
        with log.open("w") as stream:
            process = subprocess.Popen(
                command,
                cwd=HOST,
                env={**own, "PYTHONPATH": path, "HYDRA_FULL_ERROR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            while process.poll() is None:
                metrics.read()
                time.sleep(POLL_SECONDS)
        metrics.read()
        if process.returncode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
            raise RuntimeError(f"the miniature host ({name}) ended with status {process.returncode}:\n{tail}")
        self.steps = metrics.step
        return metrics.seconds()

    def _common(self, folder: Path) -> tuple[str, ...]:
        return (
            "seed=1",
            f"dataset.roots=[{self.folder / 'rooms'}]",
            f"trainer.accelerator={self.plan.accelerator}",
            "trainer.progress_bar=false",
            "trainer.num_sanity_val_steps=0",
            "trainer.limit_val_batches=0",
            "trainer.log_every_n_steps=1",
            f"hydra.run.dir={folder}",
            *self.plan.settings,
        )

    def train(self, name: str, steps: int, seconds: float, *arguments: str, flag: bool = False) -> dict[str, object]:
        """Train; ends early after ``seconds``. Returns steps and seconds per step."""
        took = self.run(
            name,
            "mode=train",
            f"trainer.max_steps={steps}",
            f"trainer.max_seconds={max(seconds, 1):.1f}",
            f"checkpointing.every_n_train_steps={steps}",
            *arguments,
            flag=flag,
        )
        per_step = None if took is None or self.steps < 2 else took / self.steps
        return {"run": name, "flag": flag, "steps": self.steps, "wanted_steps": steps, "seconds_per_step": per_step}

    def checkpoint(self, name: str) -> Path:
        """What a training ended in."""
        return self.folder / name / "checkpoints" / "last.ckpt"


def train_and_test(record: Record, budget: Budget, plan: Plan, folder: Path) -> None:
    """All of it, written as it comes."""
    from diff3r_plugin.data import make_data
    from diff3r_plugin.demo.results import TestedScenes

    started = time.monotonic()
    make_data(folder / "rooms", plan.rooms, progress=False)
    record.put("rooms", {**asdict(plan.rooms), "seconds": time.monotonic() - started})
    host = Host(folder, plan)

    # Shares of the time that is left; the start of Python and the host's imports come on top.
    plain = host.train("plain", plan.plain_steps, 0.3 * budget.left)
    record.add("trainings", plain)
    start = (f"checkpointing.load={host.checkpoint('plain')}", "checkpointing.resume=false")
    refined = host.train("flag", plan.flag_steps, 0.45 * budget.left, *start, flag=True)
    record.add("trainings", refined)
    if plain["seconds_per_step"] and refined["seconds_per_step"]:
        record.put("step_with_flag / without", refined["seconds_per_step"] / plain["seconds_per_step"])  # type: ignore[operator]

    out = folder / "test" / "scores"
    host.run(
        "test",
        "mode=test",
        "dataset/view_sampler=evaluation",
        f"dataset.view_sampler.index_path={folder / 'rooms' / 'evaluation_index_test.json'}",
        f"checkpointing.load={host.checkpoint('flag')}",
        f"test.output_path={out}",
        "test.save_image=false",
        flag=True,
    )
    tested = TestedScenes.read(out / "diff3r_scores.json")
    summary: dict[str, object] = {"scenes": len(tested.scenes), "tto_seconds": tested.seconds}
    for side, scores in (("before", tested.before), ("after", tested.after)):
        summary[f"psnr_{side}"] = MeanAndError.of(scores.psnr).mean
        summary[f"ssim_{side}"] = MeanAndError.of(scores.ssim).mean
    record.put("held_out", summary)
    if refined["steps"] < plan.least:  # type: ignore[operator]
        record.end(TRUNCATED, f"the time was enough for {refined['steps']} of {plan.flag_steps} steps with the flag")


def main() -> None:
    with recorded("training", __doc__) as (record, budget, options):
        if lacking := missing():
            record.end(SKIPPED, f"the miniature host needs modules that are not installed: {', '.join(lacking)}")
            return
        if not (HOST / "src" / "main.py").is_file():
            record.end(SKIPPED, f"there is no miniature host at {HOST}")
            return
        with tempfile.TemporaryDirectory(prefix="diff3r-gpu-check-") as folder:
            train_and_test(record, budget, DRY_RUN if options.cpu else FULL, Path(folder))


if __name__ == "__main__":
    main()
