"""The data and the curve of a pretraining on captured scenes; `benchmarks.pretrain` trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.captured.roots import CapturedOptions, training_split, windows
from diff3r_plugin.data import DataOptions
from diff3r_plugin.data.re10k_format import read_split
from diff3r_plugin.demo import data
from diff3r_plugin.demo.data import TestData
from diff3r_plugin.demo.host import HostCommand, run
from diff3r_plugin.strict_json import write_json


def mixed_data(out: Path, options: CapturedOptions, rooms: DataOptions) -> dict[str, TestData]:
    """Write the mixed training split, and validation windows of captured scenes and of rooms apart.

    What is there already with the same options is kept.

    Args:
        out: Folder; the training split is ``out/mixed/train``.
        options: The captured scenes; those that ``without`` names choose.
        rooms: The rooms, without depths: batches hold both kinds, and photographs have none.

    Returns:
        Validation windows by kind.
    """
    record = out / "mixed" / "done.json"
    wanted = json.loads(json.dumps({**options.record(), "rooms": data.options_command(Path("OUT"), rooms)}))
    if not record.is_file() or json.loads(record.read_text(encoding="utf-8")) != wanted:
        data.rooms(out / "rooms", replace(rooms, depths=False))
        training_split(out / "mixed" / "train", options, list(read_split(out / "rooms" / "train").values()))
        for name, root in options.roots.items():
            windows(root, out / "captured_val" / name, options.near, only=options.without)
        write_json(record, wanted)
    captured = {
        f"captured {name}": TestData(
            out / "captured_val" / name, out / "captured_val" / name / "evaluation_index_test.json"
        )
        for name in options.roots
    }
    return {**captured, "rooms": TestData.rooms(out / "rooms", "val")}


def test_scores(checkpoint: Path, place: TestData, folder: Path) -> dict[str, float]:
    """PSNR and SSIM of a checkpoint on evaluation windows, means over scenes; kept in ``folder``."""
    found = folder / "scores_all_avg.json"
    if not found.is_file():
        arguments = (
            "mode=test",
            "trainer.accelerator=cpu",
            "trainer.progress_bar=false",
            f"dataset.roots=[{place.root}]",
            f"dataset.splits.test={place.split}",
            "dataset/view_sampler=evaluation",
            f"dataset.view_sampler.index_path={place.index}",
            f"checkpointing.load={checkpoint}",
            f"test.output_path={folder}",
            "test.save_image=false",
            f"hydra.run.dir={folder / 'run'}",
        )
        run(HostCommand(f"testing {checkpoint.name}", arguments, folder / "test.log"))
    return {name: round(value, 4) for name, value in json.loads(found.read_text(encoding="utf-8")).items()}


def curve(checkpoints: Sequence[tuple[int, Path]], places: dict[str, TestData], out: Path) -> list[dict[str, object]]:
    """PSNR and SSIM at each checkpoint, by kind of validation scenes.

    Args:
        checkpoints: Step and file of each.
        places: Validation windows by kind.
        out: Folder for what the tests write; what is there is not tested again.
    """
    return [
        {
            "step": step,
            **{
                kind: test_scores(checkpoint, place, out / "curve" / f"{step:06d}_{kind.replace(' ', '_')}")
                for kind, place in places.items()
            },
        }
        for step, checkpoint in checkpoints
    ]
