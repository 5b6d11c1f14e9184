"""The demonstration's data: procedural rooms, and images that the user adds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.data import DataOptions, make_data
from diff3r_plugin.demo.settings import DemoError
from diff3r_plugin.strict_json import write_json

WINDOW = 5
"""Frames of one test case cut from a longer sequence: the outer two are the context, the others the targets."""


def options_command(out: Path, options: DataOptions) -> str:
    """The command line that writes the same data."""
    default, words = DataOptions(), ["diff3r", "make-data", str(out)]
    for name, value in asdict(options).items():
        if value != getattr(default, name):
            values = () if value is True else value if isinstance(value, tuple) else (value,)
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    return " ".join(words)


def rooms(out: Path, options: DataOptions, progress: bool = True) -> bool:
    """Write the rooms unless the same ones are there already; returns whether it wrote them."""
    record = out / "options.json"  # the last thing that make_data writes
    if record.is_file() and json.loads(record.read_text()) == json.loads(json.dumps(asdict(options))):
        return False
    record.unlink(missing_ok=True)
    make_data(out, options, progress=progress)
    return True


@dataclass(frozen=True)
class TestData:
    """Scenes to test on.

    Args:
        root: Data root in the RealEstate10K chunk layout.
        index: Evaluation index: which frames of which scenes.
        split: Folder of the scenes below the root.
    """

    __test__ = False  # not a test case: pytest goes by the name

    root: Path
    index: Path
    split: str = "test"

    @classmethod
    def rooms(cls, root: Path, split: str) -> TestData:
        """A split of the procedural rooms."""
        return cls(root, root / f"evaluation_index_{split}.json", split)

    def count(self) -> int:
        """How many scenes the index names."""
        return len(json.loads(self.index.read_text(encoding="utf-8")))


def windows(root: Path, out: Path) -> TestData:
    """Scenes of a data set to test on; cuts long sequences where it has no index.

    Without ``evaluation_index_test.json`` or ``evaluation_index.json`` every ``WINDOW`` neighboring frames of a
    sequence become a test case of their own, written to ``out``; windows in which the camera jumps are left out.

    Args:
        root: Folder with a ``test`` split in the RealEstate10K chunk layout.
        out: Folder for what has to be written.

    Raises:
        DemoError: if no sequence has ``WINDOW`` neighboring frames.
    """
    for name in ("evaluation_index_test.json", "evaluation_index.json"):
        if (root / name).is_file():
            return TestData(root, root / name)
    folder = out / "test"
    folder.mkdir(parents=True, exist_ok=True)
    cases, chunks, evaluation = [], json.loads((root / "test" / "index.json").read_text()), {}
    for chunk in dict.fromkeys(chunks.values()):
        for scene in torch.load(root / "test" / chunk, weights_only=True):
            for start in _steady_starts(scene["cameras"]):
                key, frames = f"{scene['key']}_{start:04d}", slice(start, start + WINDOW)
                case = {name: scene[name][frames] for name in ("cameras", "images", "timestamps") if name in scene}
                case["cameras"] = case["cameras"].clone()  # a slice would be saved with all it was cut from
                cases.append({**scene, **case, "key": key})
                evaluation[key] = {"context": [0, WINDOW - 1], "target": list(range(1, WINDOW - 1))}
    if not cases:
        raise DemoError(f"{root} has no sequence of {WINDOW} neighboring frames to test on.")
    with atomic_write(folder / "000000.torch") as file:
        torch.save(cases, file)
    write_json(folder / "index.json", dict.fromkeys(evaluation, "000000.torch"))
    index = out / "evaluation_index_test.json"
    write_json(index, evaluation)
    return TestData(out, index)


def _steady_starts(cameras: torch.Tensor) -> list[int]:
    """First frames of the windows in which no step of the camera is beyond three times the median step."""
    poses = torch.eye(4).repeat(len(cameras), 1, 1)
    poses[:, :3] = cameras[:, 6:].reshape(-1, 3, 4)
    centers = torch.linalg.inv(poses)[:, :3, 3]
    steps = (centers[1:] - centers[:-1]).norm(dim=-1)
    if len(steps) == 0:
        return []
    limit = 3 * steps.median()
    starts = range(0, len(cameras) - WINDOW + 1, WINDOW)
    return [start for start in starts if bool((steps[start : start + WINDOW - 1] <= limit).all())]
