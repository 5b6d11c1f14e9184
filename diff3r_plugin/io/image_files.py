"""Which file is the image that a frame names: one order, never the file of another frame.

1. The name as it stands, relative to the folder of the file that has it. Then with ``/`` for ``\\`` (Windows), in
   another Unicode form, and, where it is not UTF-8, in the encodings that its bytes may be of.
2. A name without the suffix of an image: with ``.png``, as Blender's and instant-ngp's loaders complete it, else the
   one image file that has the name and another suffix; where several have, none is taken.
3. Where a folder is given (``--images``), names are relative to it. Leading folders of the names are left off, the same
   number for all frames and as few as find the most images.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from diff3r_plugin.io.errors import FileError, MissingImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".exr", ".gif", ".tga", ".ppm")
ENCODINGS = ("cp1252", "cp1251", "gb18030", "shift_jis")
"""Of file names on Windows, tried on names that are not UTF-8."""

Found = tuple[list[Path], list["FileError | None"]]


def find_images(path: Path, names: Sequence[str], root: Path, images: Path | None = None) -> Found:
    """The file of each name, and what is wrong with it or None; nothing is raised for a name that nobody asks for.

    Args:
        path: The file that the names are from; errors name it.
        names: As they stand in it; bytes that are not UTF-8 as ``os.fsdecode`` has them.
        root: The folder that they are relative to.
        images: The folder that the images lie in instead.
    """
    folders = _Folders()
    if images is None:
        chosen = [[root / spelling for spelling in _spellings(name)] for name in names]
    else:
        chosen = _without_leading_folders(names, images, folders)
    files: list[Path] = []
    problems: list[FileError | None] = []
    for name, places in zip(names, chosen, strict=True):
        file, several = _first(places, folders)
        files.append(file or places[0])
        if file is not None:
            problems.append(None)
        elif several:
            problems.append(_ambiguous(path, name, several))
        else:
            problems.append(_missing(path, name, places, images, folders))
    for number, other in _shared(names, files, problems):
        problems[number] = FileError(
            path,
            f"{printable(names[number])!r} and {printable(names[other])!r} would both be {files[number]}.",
            "Give the folder above, in which both have their own file (--images), or name one file for each frame.",
        )
    return files, problems


def printable(name: str) -> str:
    """A name that can be printed anywhere: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _Folders:
    """What lies in folders, each listed once."""

    def __init__(self) -> None:
        self._stems: dict[Path, dict[str, list[Path]]] = {}

    def with_stem(self, folder: Path, stem: str) -> list[Path]:
        """Image files of that name and any suffix."""
        if folder not in self._stems:
            found: dict[str, list[Path]] = {}
            for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
                if entry.suffix.lower() in SUFFIXES:
                    found.setdefault(entry.stem, []).append(entry)
            self._stems[folder] = found
        return self._stems[folder].get(stem, [])

    def like(self, file: Path) -> Path | None:
        """A file whose name differs in the case of its letters or in its suffix."""
        self.with_stem(file.parent, "")
        stems = self._stems[file.parent]
        return next((each for stem in stems if stem.lower() == file.stem.lower() for each in stems[stem]), None)


def _spellings(name: str) -> Iterator[str]:
    """The name, and what it may be written as on this machine."""
    seen = [name]
    if "\\" in name:
        seen.append(re.sub(r"^[A-Za-z]:/", "/", name.replace("\\", "/")))
    for form in ("NFC", "NFD"):
        seen += [unicodedata.normalize(form, spelling) for spelling in seen[:2]]
    raw = os.fsencode(name) if _encodes(name) else b""
    foreign = any(0xDC80 <= ord(letter) <= 0xDCFF for letter in name)
    for encoding in ENCODINGS if not name.isascii() else ():
        try:
            seen.append(raw.decode(encoding) if foreign else os.fsdecode(name.encode(encoding)))
        except UnicodeError:
            continue
    return iter(dict.fromkeys(spelling for spelling in seen if "\0" not in spelling))


def _encodes(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeError:
        return False
    return True


def _first(places: Sequence[Path], folders: _Folders) -> tuple[Path | None, list[Path]]:
    """The first place with a file; where a name needs a suffix and several fit, those."""
    for place in places:
        if place.is_file():
            return place, []
    for place in places:
        if place.suffix.lower() in SUFFIXES or not place.name:
            continue
        completed = place.with_name(place.name + ".png")
        if completed.is_file():
            return completed, []
        others = folders.with_stem(place.parent, place.name)
        if others:
            return (others[0], []) if len(others) == 1 else (None, others)
    return None, []


def _without_leading_folders(names: Sequence[str], images: Path, folders: _Folders) -> list[list[Path]]:
    """Where each image may lie below the given folder."""
    spelled = [[_parts(spelling) for spelling in _spellings(name)] for name in names]

    def places(skipped: int) -> list[list[Path]]:
        return [
            list(dict.fromkeys(images.joinpath(*parts[min(skipped, len(parts) - 1) :]) for parts in each))
            for each in spelled
        ]

    deepest = max((len(parts) for each in spelled for parts in each), default=1)
    counts = Counter({k: sum(_first(each, folders)[0] is not None for each in places(k)) for k in range(deepest)})
    best = max(counts.values(), default=0)
    return places(min((k for k, count in counts.items() if count == best), default=0) if best else deepest - 1)


def _parts(name: str) -> list[str]:
    parts = [part for part in re.sub(r"^[A-Za-z]:", "", name).split("/") if part not in ("", ".", "..")]
    return parts or [""]


def _shared(names: Sequence[str], files: Sequence[Path], problems: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Frames whose file is that of an earlier frame of another name, and the other way round."""
    first: dict[Path, int] = {}
    for number, file in enumerate(files):
        if problems[number] is not None:
            continue
        other = first.setdefault(file, number)
        if other != number and names[other] != names[number]:
            yield number, other
            yield other, number


def _ambiguous(path: Path, name: str, several: Sequence[Path]) -> FileError:
    these = ", ".join(file.name for file in several[:3])
    return FileError(
        path,
        f"{printable(name)!r} has no suffix, and {len(several)} files fit: {these}.",
        "Write the suffix into the name, or name a folder that holds one of them (--images).",
    )


def _missing(path: Path, name: str, places: Sequence[Path], images: Path | None, folders: _Folders) -> FileError:
    like = next((found for place in places if (found := folders.like(place))), None)
    hint = f" There is {like.name!r}, which is another name." if like is not None else ""
    cure = (
        "Put it there, name the folder of the images (--images), or leave the frame out (--frames)."
        if images is None
        else f"Names are relative to {images}, without leading folders that it does not have: give the folder that "
        "holds them, or leave the frame out (--frames)."
    )
    return MissingImageError(path, f"{printable(name)!r}: there is no {printable(str(places[0]))}.{hint}", cure)
