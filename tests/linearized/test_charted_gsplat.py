"""What the GPU's charted linearization promises without a device."""

import pytest
import torch
from scenes import random_scene

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.linearized.charted_gsplat import GsplatCharted
from diff3r_plugin.render.gsplat_rasterizer import Rasterizer


def test_float64_is_refused_before_a_kernel_reads_it_as_float32():
    scene, views = random_scene(gaussians=4, views=1, size=(8, 8))
    coordinates = Coordinates(scene, views, ("means",))
    untouched = Rasterizer(None, None, None, kernels=object(), alpha_cap=0.99, stream=lambda device: 0)
    theta = torch.zeros(1, coordinates.num_unknowns).double()
    with pytest.raises(ValueError, match="computes in float32, got float64"):
        GsplatCharted(coordinates, theta, views, untouched)
