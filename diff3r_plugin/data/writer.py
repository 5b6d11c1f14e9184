"""Write a data set of procedural rooms that any host of the pixelSplat family can train on."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.data import outliers, re10k_format
from diff3r_plugin.data.camera_paths import sample_path
from diff3r_plugin.data.options import SPLITS, DataOptions
from diff3r_plugin.data.ray_caster import render_room
from diff3r_plugin.data.rooms import Room, sample_extent, sample_room

_SCENES_PER_CHUNK = 32


@dataclass(frozen=True)
class Scene:
    """A room with the cameras that look at it.

    Args:
        room: The room, in its own frame.
        camera_to_room: ``[frames, 4, 4]``.
        intrinsics: fx, fy, cx, cy in units of image width and height.
    """

    room: Room
    camera_to_room: np.ndarray
    intrinsics: tuple[float, float, float, float]

    @property
    def world_to_camera(self) -> np.ndarray:
        """Poses as written, ``[frames, 4, 4]``: the world frame of a scene is its first camera."""
        return np.linalg.inv(self.camera_to_room) @ self.camera_to_room[0]


def sample_scene(seed: int, split: str, number: int, frames: int) -> Scene:
    """The scene that `make_data` writes for these numbers; for tests and measurements that need its geometry.

    Example:
        >>> from diff3r_plugin.data.writer import sample_scene
        >>> sample_scene(seed=0, split="test", number=3, frames=8).world_to_camera.shape
        (8, 4, 4)
    """
    rng = _generator(seed, split, number)
    low, high = sample_extent(rng)
    path = sample_path(rng, low, high, frames)
    room = sample_room(rng, low, high, path[:, :3, 3])
    focal = float(rng.uniform(0.8, 1.25))
    return Scene(room, path, (focal, focal, 0.5, 0.5))


def make_data(
    out: Path | str, options: DataOptions | None = None, workers: int | None = None, progress: bool = True
) -> None:
    """Write a data set in the RealEstate10K chunk layout, with evaluation indices.

    Under ``out``: ``train/``, ``val/`` and ``test/`` (chunks and ``index.json``, see `re10k_format`),
    ``evaluation_index_<split>.json`` in the family's format (two context frames, targets between them),
    ``outliers_<split>.json`` (scene -> frame -> what was done to it; only where asked for) and ``options.json``.

    Args:
        out: Folder; made if need be. Splits that are there already are overwritten.
        options: What to write; the defaults take about a minute on two cores.
        workers: Processes; all cores when not given. Does not change the result.
        progress: Show a progress bar; a line every ten seconds where the output is no terminal.

    Example:
        >>> import tempfile
        >>> from diff3r_plugin.data import DataOptions, make_data
        >>> folder = tempfile.mkdtemp()
        >>> make_data(folder, DataOptions(train=1, val=1, test=1, frames=6, size=16), workers=1, progress=False)
        >>> sorted(p.name for p in Path(folder).iterdir())[:3]
        ['evaluation_index_test.json', 'evaluation_index_train.json', 'evaluation_index_val.json']
    """
    options = options or DataOptions()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)  # before anything is rendered
    plans = {split: _plan_split(options, split) for split in SPLITS}
    with _progress_bar(sum(len(scenes) for scenes, _ in plans.values()), progress) as advance:
        for split, (evaluation, corrupted) in plans.items():
            _write_split(out, options, split, evaluation, corrupted, workers or os.cpu_count() or 1, advance)
    _write_json(out / "options.json", asdict(options))


def _plan_split(options: DataOptions, split: str) -> tuple[dict[str, dict], dict[str, dict[int, str]]]:
    """Evaluation index of a split, and which frames are to be corrupted how."""
    evaluation = {}
    for number in range(getattr(options, split)):
        rng = _generator(options.seed, split, number, purpose=1)
        gap = max(round(rng.uniform(0.4, 0.75) * (options.frames - 1)), options.target_views + 1)
        first = int(rng.integers(0, options.frames - gap))
        targets = rng.choice(np.arange(first + 1, first + gap), options.target_views, replace=False)
        evaluation[_key(split, number)] = {
            "context": [first, first + gap],
            "target": sorted(int(t) for t in targets),
        }
    if split not in options.outlier_splits or options.outlier_share == 0:
        return evaluation, {}
    candidates = [
        (key, frame)
        for key, views in evaluation.items()
        for frame in (range(options.frames) if split == "train" else views["context"])
    ]
    rng = _generator(options.seed, split, len(evaluation), purpose=3)
    return evaluation, outliers.choose_outliers(rng, candidates, options.outlier_share, options.outlier_kinds)


def _write_split(
    out: Path,
    options: DataOptions,
    split: str,
    evaluation: dict[str, Any],
    corrupted: dict[str, dict[int, str]],
    workers: int,
    advance: Callable[[], object],
) -> None:
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.torch"):
        stale.unlink()
    index: dict[str, str] = {}
    notes: dict[str, dict] = {}
    chunk: list[dict] = []
    jobs = [(number, corrupted.get(key, {})) for number, key in enumerate(evaluation)]
    with _worker_map(min(workers, len(jobs))) as run:
        for number, (record, note) in enumerate(run(partial(_render_scene, options, split), jobs)):
            key = record[0]
            chunk.append(re10k_format.scene_record(*record))
            if note:
                notes[key] = note
            if len(chunk) == _SCENES_PER_CHUNK or number + 1 == len(jobs):
                index |= re10k_format.write_chunk(folder, number // _SCENES_PER_CHUNK, chunk)
                chunk = []
            advance()
    _write_json(folder / "index.json", index)
    _write_json(out / f"evaluation_index_{split}.json", evaluation)
    sidecar = out / f"outliers_{split}.json"
    if notes:
        _write_json(sidecar, notes)
    else:
        sidecar.unlink(missing_ok=True)


def _render_scene(
    options: DataOptions, split: str, job: tuple[int, dict[int, str]]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One scene as plain arrays and bytes; runs in a worker process."""
    number, defects = job
    scene = sample_scene(options.seed, split, number, options.frames)
    rng = _generator(options.seed, split, number, purpose=2)
    poses = scene.world_to_camera
    images, depths, notes, before = [], [], {}, []
    size = (options.size, options.size)
    for frame, pose in enumerate(scene.camera_to_room):
        image, depth = render_room(scene.room, pose, scene.intrinsics, size, options.supersample)
        if frame in defects:
            before.append((frame, re10k_format.encode_jpeg(image), poses[frame].copy()))
            image, poses[frame], notes[str(frame)] = outliers.corrupt(rng, defects[frame], image, poses[frame])
        images.append(re10k_format.encode_jpeg(image))
        depths.append(depth)
    url = f"diff3r procedural room, seed {options.seed}"
    cameras = re10k_format.camera_rows(scene.intrinsics, poses)
    truth = np.stack(depths).astype(np.float16) if options.depths else None
    clean = None
    if options.outlier_share > 0 and split in options.outlier_splits:
        clean = re10k_format.Clean(
            [frame for frame, _, _ in before],
            [file for _, file, _ in before],
            re10k_format.camera_rows(scene.intrinsics, np.array([pose for _, _, pose in before]).reshape(-1, 4, 4)),
            np.array([outliers.corrupted_pixels(notes[str(f)], size) for f, _, _ in before], bool).reshape(-1, *size),
        )
    return (_key(split, number), url, cameras, images, truth, clean), notes


def _key(split: str, number: int) -> str:
    return f"room_{split}_{number:05d}"


def _generator(seed: int, split: str, number: int, purpose: int = 0) -> np.random.Generator:
    """An independent stream of random numbers for each scene and purpose."""
    return np.random.default_rng([seed, SPLITS.index(split), number, purpose])


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


@contextmanager
def _worker_map(workers: int) -> Iterator[Callable]:
    """``map`` over that many processes, in order; in this process when one is enough."""
    if workers <= 1:
        yield map
        return
    # Forking is quick and needs no import guard in the caller's script; the workers touch numpy and Pillow only.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)) as pool:
        yield pool.map


@contextmanager
def _progress_bar(total: int, show: bool) -> Iterator[Callable[[], None]]:
    """A function to call once per finished scene."""
    if not show:
        yield lambda: None
        return
    from tqdm import tqdm

    # In a log file every update is a line: now and then one, with the time that is left.
    seconds = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=total, desc="Rendering rooms", unit="scene", mininterval=seconds) as bar:

        def advance() -> None:
            bar.update()

        yield advance
