"""Rows are finite if all of their numbers are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diff3r_plugin.finite import finite_rows

LARGEST = torch.finfo(torch.float32).max


@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_as_asking_each_number(rows):
    values = torch.tensor(rows)
    assert torch.equal(finite_rows(values), values.isfinite().all(-1))


@pytest.mark.parametrize(
    "value, finite", [(LARGEST, True), (-LARGEST, True), (float("-inf"), False), (float("nan"), False)]
)
def test_one_number_among_many(value, finite):
    values = torch.full((2, 3, 1000), LARGEST)
    values[1, 2, 500] = value
    assert finite_rows(values).tolist() == [[True] * 3, [True, True, finite]]


def test_no_graph_is_recorded():
    assert not finite_rows(torch.ones(2, 3, requires_grad=True)).requires_grad
