"""Colors say no more than the numbers: a constant map is of one color, and scales are shared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diff3r_plugin.maps import LEAST_FACTOR
from diff3r_plugin.report.color_scale import ColorScale, described


def test_weights_that_hardly_differ_hardly_differ_in_color():
    noise = np.random.default_rng(0).uniform(0.99, 1.01, (2, 8, 8))
    scale = ColorScale.of_weights([0.01 * noise])
    assert scale.high / scale.low == pytest.approx(LEAST_FACTOR)
    colors = scale.colors(0.01 * noise[0]).astype(int)
    assert np.ptp(colors, axis=(0, 1)).max() <= 5  # of 255
    assert described(0.01 * noise) == "0.0099 to 0.01"


def test_weights_that_differ_take_the_whole_scale():
    maps = [np.array([[[0.001, 0.01]]]), np.array([[[0.1, 1.0]]])]
    scale = ColorScale.of_weights(maps)
    assert (scale.low, scale.high) == (pytest.approx(0.001), pytest.approx(1.0))
    ends = [scale.colors(np.array([[value]])) for value in (0.001, 1.0)]
    assert (ends[0] == ColorScale(0, 1, colormap="viridis").colors(np.zeros((1, 1)))).all()
    assert (ends[1] == ColorScale(0, 1, colormap="viridis").colors(np.ones((1, 1)))).all()


@given(st.floats(1e-6, 1e6), st.floats(1, 1e4))
def test_weights_lie_within_their_scale(low, factor):
    scale = ColorScale.of_weights([np.array([[[low, low * factor]]])])
    assert scale.low <= low * (1 + 1e-9) and low * factor <= scale.high * (1 + 1e-9)
    assert scale.high / scale.low >= LEAST_FACTOR * (1 - 1e-9)


@pytest.mark.parametrize(("most", "high"), [(0.0, 0.05), (0.04, 0.05), (0.12, 0.2), (0.4, 0.5), (0.9, 1.0)])
def test_the_scale_of_errors_starts_at_zero_and_ends_at_a_round_number(most, high):
    scale = ColorScale.of_errors([np.zeros((4, 4)), np.full((4, 4), most)])
    assert (scale.low, scale.high) == (0.0, high)
    assert ColorScale.of_errors([]).high == 0.05


def test_the_gradient_of_the_legend_has_the_colors_of_the_maps():
    scale = ColorScale(0.0, 1.0)
    for value in (0.0, 0.5, 1.0):
        red, green, blue = scale.colors(np.array([[value]]))[0, 0]
        assert f"#{red:02x}{green:02x}{blue:02x}" in scale.gradient()
