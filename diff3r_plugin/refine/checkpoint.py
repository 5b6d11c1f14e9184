"""What an interrupted refinement resumes from: the scene after each round, and the records of the rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.io import read_npz, write_npz
from diff3r_plugin.refine.cameras import Cameras
from diff3r_plugin.refine.settings import RefineError
from diff3r_plugin.strict_json import strict, write_json

RECORDED = {
    *("round", "views", "outcome", "energy_before", "energy_after", "accepted_steps", "damping", "gaussians"),
    *("validation_psnr", "settling", "seconds"),
}
"""What the record of a round holds."""


@dataclass(frozen=True)
class Checkpoint:
    """A refinement between two rounds.

    Args:
        scene: As the last round left it.
        rounds: What is recorded of each finished round.
        best: The scene after the round of the highest ``validation_psnr``; None where none was validated.
        cameras: Poses and exposures of the context views by now; None as they were given.
        best_cameras: Those that belong to ``best``.
    """

    scene: Gaussians
    rounds: list[dict[str, Any]]
    best: Gaussians | None = None
    cameras: Cameras | None = None
    best_cameras: Cameras | None = None

    @property
    def result(self) -> Gaussians:
        """The scene to return if it ended here: the best one by validation, once that is settled the settled one."""
        return self.scene if self._last_counts else self.best  # type: ignore[return-value]

    @property
    def result_cameras(self) -> Cameras | None:
        """Poses and exposures that belong to :attr:`result`."""
        return self.cameras if self._last_counts else self.best_cameras

    @property
    def _last_counts(self) -> bool:
        return self.best is None or self.rounds[-1]["settling"]

    @property
    def best_round(self) -> int | None:
        """Number of the round of the highest ``validation_psnr``, from 1; the first of equals."""
        scores = [(entry["validation_psnr"], -entry["round"]) for entry in self.rounds if _validated(entry)]
        return -max(scores)[1] if scores else None


class Checkpoints:
    """The checkpoint of one folder: at any moment there is a whole one, or none yet.

    The scene is written first, under the round's number; then the record that names it takes the place of the last one;
    then older scenes go.

    Args:
        folder: Of the results.
        identity: What a resumed run must agree with.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder, self.record = folder / "checkpoint", folder / "checkpoint" / "state.json"
        self.identity = strict(identity)

    def exists(self) -> bool:
        """Whether there is one."""
        return self.record.is_file()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        name, best = _scene_name(len(checkpoint.rounds)), checkpoint.best_round
        names = [name, self.record.name]
        write_npz(self.folder / name, checkpoint.scene)
        if best is not None and checkpoint.best is not None:
            names.append(_best_name(best))
            if not (self.folder / names[-1]).is_file():
                write_npz(self.folder / names[-1], checkpoint.best)
        cameras = {"cameras": _numbers(checkpoint.cameras), "best_cameras": _numbers(checkpoint.best_cameras)}
        write_json(self.record, {"identity": self.identity, "scene": name, "rounds": checkpoint.rounds, **cameras})
        for file in self.folder.iterdir():
            if file.name not in names:
                file.unlink()

    def load(self) -> Checkpoint:
        """The checkpoint.

        Raises:
            RefineError: if it belongs to other settings or other inputs, or is damaged.
        """
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
            identity, name, rounds = content["identity"], content["scene"], content["rounds"]
            if not isinstance(identity, dict) or not all(entry.keys() >= RECORDED for entry in rounds):
                raise ValueError("no record of rounds")
            if name != _scene_name(len(rounds)):
                raise ValueError("no scene of the last round")
            cameras, best_cameras = _cameras(content["cameras"]), _cameras(content["best_cameras"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RefineError(f"{self.record} is damaged; remove {self.folder} to start anew.") from error
        for key in {**self.identity, **identity}:
            there, here = identity.get(key), self.identity.get(key)
            if there != here:
                raise RefineError(
                    f"The run in {self.folder.parent} has {key}={there}, this one {here}. Resume with the "
                    "same, or give another --out."
                )
        found = Checkpoint(read_npz(self.folder / name), rounds, None, cameras, best_cameras)
        best = found.best_round
        return found if best is None else replace(found, best=read_npz(self.folder / _best_name(best)))


def _validated(entry: Mapping[str, Any]) -> bool:
    return entry["validation_psnr"] is not None


def _numbers(cameras: Cameras | None) -> dict[str, Any] | None:
    """As JSON holds them: a float32 comes back to the last bit."""
    if cameras is None:
        return None
    return {"world_to_camera": cameras.world_to_camera.tolist(), "exposure": cameras.exposure.tolist()}


def _cameras(content: Any) -> Cameras | None:
    if content is None:
        return None
    poses, exposure = torch.tensor(content["world_to_camera"]), torch.tensor(content["exposure"])
    if poses.shape[1:] != (4, 4) or exposure.shape != (len(poses), 6):
        raise ValueError("no cameras")
    return Cameras(poses, exposure)


def _scene_name(rounds: int) -> str:
    return f"round_{rounds:05d}.npz"


def _best_name(rounds: int) -> str:
    return f"best_{rounds:05d}.npz"
