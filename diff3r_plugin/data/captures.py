"""One's own captures in the RealEstate10K chunk layout: training and test data of hosts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.atomic import atomic_write
from diff3r_plugin.data import overlap, re10k_format
from diff3r_plugin.data.options import SPLITS
from diff3r_plugin.io import FileError, PosedImages, image_size, read_points, read_posed_images
from diff3r_plugin.io.world_frames import camera_centers
from diff3r_plugin.ranges import require_positive, require_whole

CHUNK_BYTES = 100_000_000
"""Of images in a chunk, about: the size of RealEstate10K's own."""
NEARER, FARTHER = 0.7, 1.5
"""Room before the nearest and behind the farthest points."""


@dataclass(frozen=True)
class CaptureOptions:
    """What is written of captures.

    Args:
        size: (H, W) of the images; larger ones are made smaller and cropped around their middle.
        overlaps: Of the context views in the evaluation indices, each in (0, 1); the first one's has the plain name.
        target_views: Target frames of a scene in the evaluation indices.
        median_depth: Median depth of a scene's points that each scene is scaled to; None leaves scales as they are.
        val: Names of captures for validation.
        test: Names of captures for testing; without any names, one tenth of the captures each, and at least one for
            testing.

    Raises:
        ValueError: for a value out of its range.
    """

    size: tuple[int, int] = (360, 640)
    overlaps: tuple[float, ...] = (0.6,)
    target_views: int = 3
    median_depth: float | None = None
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, length in zip(("height", "width"), self.size, strict=True):
            require_whole(name, length, 8)
        require_whole("target_views", self.target_views, 1)
        if not self.overlaps or not all(0 < value < 1 for value in self.overlaps):
            raise ValueError(f"overlaps={self.overlaps} must be numbers between 0 and 1.")
        if self.median_depth is not None:
            require_positive("median_depth", self.median_depth)


def make_capture_data(
    out: Path | str,
    sources: Sequence[str | Path],
    options: CaptureOptions | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write captures as the splits ``train``, ``val`` and ``test``, evaluation indices and ``report.json``.

    Args:
        out: Folder; splits that are there already are overwritten.
        sources: COLMAP folders or ``transforms.json`` files, each one scene, undistorted as they are read.
        options: What to write.
        say: Is told of each scene.

    Returns:
        The report: for each scene its split, frames, depths, near and far and what was left out; near and far for all.

    Raises:
        FileError: if a capture cannot be read at all.
        ValueError: if nothing can be written, or options name captures that are not there.
    """
    options, out = options or CaptureOptions(), Path(out)
    names = _scene_names(sources)
    split_of = _splits(list(names), options)
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"options": asdict(options), "scenes": {}, "left_out": {}}
    writers = {split: _SplitWriter(out / split) for split in SPLITS}
    indices: dict[str, dict[float, dict]] = {split: {value: {} for value in options.overlaps} for split in SPLITS}
    for name, source in names.items():
        scene = _read_capture(str(source), options)
        if isinstance(scene, str):
            report["left_out"][name] = scene
            say(f"{name}: left out, {scene}")
            continue
        split = split_of[name]
        writers[split].add(name, str(source), scene, options)
        for value in options.overlaps:
            pair = overlap.context_pair(scene.shared, value, options.target_views)
            assert pair is not None, "a capture has enough frames"
            targets = overlap.targets_between(*pair, options.target_views)
            indices[split][value][name] = {"context": list(pair), "target": targets}
        entry = scene.report(split, options, [indices[split][value][name]["context"] for value in options.overlaps])
        report["scenes"][name] = entry
        say(f"{name}: {split}, {entry['frames']} frames, depths {entry['depths'][0]:.3g} to {entry['depths'][2]:.3g}")
    if not report["scenes"]:
        raise ValueError(f"Nothing to write: {'; '.join(f'{k}: {v}' for k, v in report['left_out'].items())}.")
    for split in SPLITS:
        writers[split].close()
        for number, (value, index) in enumerate(indices[split].items()):
            _write_json(out / f"evaluation_index_{split}_overlap_{value:g}.json", index)
            if not number:
                _write_json(out / f"evaluation_index_{split}.json", index)
    report["near"] = min(scene["near"] for scene in report["scenes"].values())
    report["far"] = max(scene["far"] for scene in report["scenes"].values())
    _write_json(out / "report.json", report)
    return report


@dataclass(frozen=True, eq=False)
class _Capture:
    """A capture whose frames are in order and can all be had.

    Args:
        posed: Its frames, undistorted, scaled where that was asked for.
        shared: Overlap of each two.
        depths: The 1 %, 50 % and 99 % depths of points.
        notes: What was done and left out.
    """

    posed: PosedImages
    shared: Float[Tensor, "F F"]
    depths: tuple[float, float, float]
    notes: list[str]

    def report(self, split: str, options: CaptureOptions, pairs: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What is written of it."""
        of_pairs = [round(float(self.shared[first, last]), 3) for first, last in pairs]
        found = {f"{wanted:g}": have for wanted, have in zip(options.overlaps, of_pairs, strict=True)}
        notes = list(self.notes)
        off = [f"{wanted} asked, {have} found" for wanted, have in found.items() if abs(float(wanted) - have) > 0.1]
        if off:
            notes.append(f"no context views of the overlap that was asked for ({'; '.join(off)})")
        return {
            "split": split,
            "frames": len(self.posed),
            "depths": list(self.depths),
            "near": NEARER * self.depths[0],
            "far": FARTHER * self.depths[2],
            "overlaps": found,
            "notes": notes,
        }


def _read_capture(source: str, options: CaptureOptions) -> _Capture | str:
    """A capture, or why it is left out."""
    posed, notes = read_posed_images(source), []
    usable, why = [], []
    for number in range(len(posed)):
        problem = _problem(posed.subset([number]))
        if problem is None:
            usable.append(number)
        else:
            why.append(problem)
    if why:
        notes.append(f"{len(why)} of {len(posed)} images left out, the first: {why[0]}")
    if len(usable) < options.target_views + 2:
        cause = f" ({why[0]})" if why else ""
        return f"{len(usable)} usable images, and {options.target_views + 2} are needed{cause}"
    posed = posed.subset(usable)
    if any(lens is not None for lens in posed.lenses):
        try:
            posed = posed.undistorted()
        except FileError as error:
            return error.problem
        notes.append("undistorted")
    if any(mask is not None for mask in posed.masks):
        notes.append("masks are left out: chunks have none")
    try:
        points = read_points(source).positions
    except FileError as error:
        points = overlap.stand_in_points(posed)
        notes.append(f"no points ({error.problem}): depths are where the cameras look")
    if not len(points):
        points = overlap.stand_in_points(posed)
        notes.append("no points: depths are where the cameras look")
    seen = overlap.visibility(posed, points)
    depths = overlap.depth_range(seen)
    if depths is None:
        return "no point is in view of a camera"
    shared, centers = overlap.overlaps(seen), camera_centers(posed)
    order = overlap.chain(shared, torch.cdist(centers, centers))
    if order != list(range(len(order))):
        notes.append("frames follow their nearest ones, as their names do not")
    factor = 1.0 if options.median_depth is None else options.median_depth / depths[1]
    posed = posed.subset(order)
    poses = posed.world_to_camera.clone()
    poses[:, :3, 3] *= factor
    low, middle, high = (factor * value for value in depths)
    scaled = PosedImages(posed.path, posed.names, posed.sources, poses, posed.intrinsics, posed.sizes, (),
                         posed.undistortions)  # fmt: skip
    return _Capture(scaled, shared[order][:, order], (low, middle, high), notes)


def _problem(one: PosedImages) -> str | None:
    """Why an image cannot be used."""
    try:
        one.require_images()
        one.size()  # its shape fits its camera
    except FileError as error:
        return error.problem
    return None


def _frame(one: PosedImages, size: tuple[int, int]) -> tuple[bytes, tuple[float, float, float, float]]:
    """A JPEG file of that size, and its intrinsics in parts of width and height."""
    height, width = one.size()
    factor = max(size[0] / height, size[1] / width)
    covering = (max(round(height * factor), size[0]), max(round(width * factor), size[1]))
    views = one.views(covering)
    assert views.images is not None
    top, left = (covering[0] - size[0]) // 2, (covering[1] - size[1]) // 2
    image = views.images[0, 0, :, top : top + size[0], left : left + size[1]]
    pixels = (image.permute(1, 2, 0) * 255).round().byte().contiguous().numpy()
    matrix = views.intrinsics[0, 0].double()
    normalized = (
        float(matrix[0, 0]) / size[1],
        float(matrix[1, 1]) / size[0],
        (float(matrix[0, 2]) - left) / size[1],
        (float(matrix[1, 2]) - top) / size[0],
    )
    return re10k_format.encode_jpeg(pixels), normalized


class _SplitWriter:
    """Chunks of a split, each written once it is full."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index, self.chunk, self.bytes, self.number = folder, {}, [], 0, 0  # type: ignore[var-annotated]
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.torch"):
            stale.unlink()

    def add(self, name: str, source: str, capture: _Capture, options: CaptureOptions) -> None:
        """Load a capture's images and put it into the chunk."""
        posed = capture.posed
        frames = [_frame(posed.subset([number]), options.size) for number in range(len(posed))]
        small = sum(_smaller(source_, options.size) for source_ in posed.sources)
        if small:
            capture.notes.append(f"{small} images were made larger: they are smaller than {options.size}")
        cameras = re10k_format.camera_rows((0, 0, 0, 0), posed.world_to_camera.float().numpy())
        cameras[:, :4] = np.array([intrinsics for _, intrinsics in frames], np.float32)
        images = [file for file, _ in frames]
        self.chunk.append(re10k_format.scene_record(name, Path(source).name, cameras, images))
        self.bytes += sum(map(len, images))
        if self.bytes >= CHUNK_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the index."""
        if self.chunk:
            self._flush()
        _write_json(self.folder / "index.json", self.index)

    def _flush(self) -> None:
        self.index |= re10k_format.write_chunk(self.folder, self.number, self.chunk)
        self.chunk, self.bytes, self.number = [], 0, self.number + 1


def _smaller(source: Path | bytes, size: tuple[int, int]) -> bool:
    height, width = image_size(source)
    return max(size[0] / height, size[1] / width) > 1.05 and max(size[0] / width, size[1] / height) > 1.05


def _scene_names(sources: Sequence[str | Path]) -> dict[str, str | Path]:
    """A name for each capture: that of its folder, with a number where several have it."""
    names: dict[str, str | Path] = {}
    for source in sources:
        path = Path(str(source)).absolute()
        stem = path.parent.name if path.suffix == ".json" else path.name
        number, name = 2, stem
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names[name] = source
    return names


def _splits(names: Sequence[str], options: CaptureOptions) -> dict[str, str]:
    """The split of each capture: no capture is in two."""
    unknown = [name for name in (*options.val, *options.test) if name not in names]
    if unknown:
        raise ValueError(f"There is no capture {unknown[0]!r} to validate or test on, but {', '.join(names)}.")
    both = [name for name in options.val if name in options.test]
    if both:
        raise ValueError(f"{both[0]!r} cannot be for validation and for testing.")
    test, val = list(options.test), list(options.val)
    rest = [name for name in names if name not in (*test, *val)]
    if not test and not val:
        tenth = max(1, round(len(names) / 10))
        test = rest[len(rest) - tenth :]
        val = rest[max(len(rest) - 2 * tenth, 0) : len(rest) - tenth] if len(names) > 2 else []
    return {name: "test" if name in test else "val" if name in val else "train" for name in names}


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
