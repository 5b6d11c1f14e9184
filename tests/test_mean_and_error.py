"""Means over scenes and their standard errors."""

import math

import pytest
import torch

from diff3r_plugin.mean_and_error import MeanAndError


def test_standard_error_is_that_of_the_mean():
    found = MeanAndError.of([1.0, 2.0, 4.0])
    values = torch.tensor([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(values.mean().item())
    assert found.standard_error == pytest.approx(values.std().item() / math.sqrt(3))


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([1.0], 1.0), ([math.nan, 1.0], 1.0)])
def test_one_scene_has_no_standard_error(values, mean):
    found = MeanAndError.of(values)
    assert found.mean == pytest.approx(mean, nan_ok=True) and math.isnan(found.standard_error)


def test_a_scene_without_the_value_does_not_count():
    assert MeanAndError.of([1.0, math.nan, 3.0]) == MeanAndError.of([1.0, 3.0])


def test_it_reads_what_was_written_and_says_it():
    assert MeanAndError.read({"mean": 1.0, "standard_error": None}).text(1) == "1.0"
    assert MeanAndError.read({"mean": 1.234, "standard_error": 0.05}).text(2, sign=True) == "+1.23 ± 0.05"
