"""Which images a refinement sees, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from diff3r_plugin.refine.settings import RefineError


def chosen_frames(names: Sequence[str], frames: str) -> list[int]:
    """Numbers of the images that are used.

    Raises:
        RefineError: if nothing is left, or something named is not there.

    Example:
        >>> from diff3r_plugin.refine.split import chosen_frames
        >>> chosen_frames(["a", "b", "c", "d"], "1:4:2"), chosen_frames(["a", "b"], "b,0")
        ([1, 3], [1, 0])
    """
    if frames == "all":
        found = list(range(len(names)))
    elif ":" in frames:
        try:
            found = list(range(len(names)))[slice(*(int(part) if part else None for part in frames.split(":")))]
        except (ValueError, TypeError) as error:
            raise RefineError(f"--frames {frames}: a range is FIRST:END or FIRST:END:STEP, as 0:40:2.") from error
    else:
        found = _named(names, frames, "--frames")
    if not found:
        raise RefineError(f"--frames {frames} leaves none of the {len(names)} images.")
    return found


def held_out(names: Sequence[str], used: Sequence[int], hold_out: str, splits: Sequence[str] = ()) -> list[int]:
    """Numbers of the images that are held out, in the order of ``used``.

    Args:
        names: Of all images.
        used: Numbers of those that are used.
        hold_out: See :class:`~diff3r_plugin.refine.RefineSettings`.
        splits: Of all images, "train", "val", "test" or "" where the file does not say.

    Raises:
        RefineError: if no image is left to refine on, or something named is not among the used ones.

    Example:
        >>> from diff3r_plugin.refine.split import held_out
        >>> held_out(["a", "b", "c", "d"], [0, 1, 2, 3], "every:3")
        [0, 3]
    """
    tested = [i for i in used if splits and splits[i] in ("test", "val")]
    if hold_out == "auto":
        hold_out = "file" if tested and len(tested) < len(used) else "every:8"
    kind, colon, number = hold_out.partition(":")
    if hold_out == "none":
        out: list[int] = []
    elif hold_out == "file":
        out = tested
        if not out:
            raise RefineError("--hold-out file: the file of the cameras calls none of the used images a test image.")
    elif kind == "every" and colon:
        if not number.isdigit() or int(number) < 2:
            raise RefineError(f"--hold-out {hold_out}: give every:K with K of at least 2, as every:8.")
        out = list(used[:: int(number)])
    else:
        named = _named(names, hold_out, "--hold-out")
        missing = [names[i] for i in named if i not in used]
        if missing:
            raise RefineError(f"--hold-out names {missing[0]!r}, which --frames leaves out.")
        out = [i for i in used if i in named]
    if len(out) == len(used):
        raise RefineError(f"--hold-out {hold_out} leaves none of the {len(used)} images to refine on.")
    return out


def largest_round(count: int, most: int) -> int:
    """Views of the largest round, where ``count`` views are spread evenly over rounds of at most ``most``.

    Example:
        >>> from diff3r_plugin.refine.split import largest_round
        >>> largest_round(10, 8), largest_round(3, 8)
        (5, 3)
    """
    return -(-count // -(-count // most))


def views_of_round(count: int, most: int, number: int, seed: int) -> list[int]:
    """Which of ``count`` context views a round sees: each of them once in a turn, in an order of the turn's own.

    Depends on nothing but its arguments, so that a resumed run continues as it would have.

    Example:
        >>> from diff3r_plugin.refine.split import views_of_round
        >>> sorted(views_of_round(5, 3, 0, seed=0) + views_of_round(5, 3, 1, seed=0))
        [0, 1, 2, 3, 4]
    """
    parts = -(-count // most)
    if parts == 1:
        return list(range(count))
    turn, part = divmod(number, parts)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + turn)
    return sorted(torch.randperm(count, generator=generator).tensor_split(parts)[part].tolist())


def _named(names: Sequence[str], text: str, option: str) -> list[int]:
    found = []
    for word in (part.strip() for part in text.split(",")):
        if word in names:
            found.append(list(names).index(word))
        elif word.isdigit() and int(word) < len(names):
            found.append(int(word))
        else:
            raise RefineError(f"{option} names {word!r}; there are {len(names)} images, {names[0]!r} (0) and so on.")
    return list(dict.fromkeys(found))
