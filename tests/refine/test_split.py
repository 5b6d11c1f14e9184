"""Which images are used, held out, and seen in a round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diff3r_plugin.refine import RefineError
from diff3r_plugin.refine.split import chosen_frames, held_out, largest_round, views_of_round

NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.mark.parametrize(
    ("frames", "expected"),
    [("all", [0, 1, 2, 3]), ("1:3", [1, 2]), ("::2", [0, 2]), ("c.png,0", [2, 0]), ("1,1", [1])],
)
def test_frames(frames, expected):
    assert chosen_frames(NAMES, frames) == expected


@pytest.mark.parametrize(
    ("frames", "message"),
    [("7", "names '7'; there are 4 images"), ("e.png", "names 'e.png'"), ("9:", "leaves none"), ("a:b", "FIRST:END")],
)
def test_frames_that_are_not_there(frames, message):
    with pytest.raises(RefineError, match=message):
        chosen_frames(NAMES, frames)


@pytest.mark.parametrize(("hold_out", "expected"), [("every:2", [0, 2]), ("none", []), ("d.png,1", [1, 3])])
def test_held_out(hold_out, expected):
    assert held_out(NAMES, [0, 1, 2, 3], hold_out) == expected


@pytest.mark.parametrize(
    ("used", "hold_out", "message"),
    [
        ([0, 1], "every:1", "K of at least 2"),
        ([0, 1], "every:x", "K of at least 2"),
        ([0, 1], "2", "'c.png', which --frames leaves out"),
        ([0, 1], "0,1", "leaves none of the 2 images"),
        ([0], "every:8", "leaves none of the 1 images"),
    ],
)
def test_splits_that_leave_nothing(used, hold_out, message):
    with pytest.raises(RefineError, match=message):
        held_out(NAMES, used, hold_out)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5), st.integers(0, 99))
def test_every_turn_of_rounds_sees_each_view_once(count, most, turn, seed):
    parts = -(-count // most)
    rounds = [views_of_round(count, most, turn * parts + part, seed) for part in range(parts)]
    assert sorted(view for views in rounds for view in views) == list(range(count))
    assert max(map(len, rounds)) == largest_round(count, most) <= most
    assert rounds == [views_of_round(count, most, turn * parts + part, seed) for part in range(parts)]
