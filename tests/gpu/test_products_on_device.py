"""Products on a device where scenes are large, or hold what cannot be seen; the rest is in ``render/test_backends``."""

import pytest
import torch
from on_device import CROSSING, ROUGH

from benchmarks.gpu.scenes import DEGENERATE, clear_scene, float32_scene, float32_tangent
from diff3r_plugin import Gaussians
from diff3r_plugin.render import torch_backend


def relative(found, expected) -> float:
    if isinstance(found, Gaussians):
        return max(relative(a, b) for a, b in zip(found.tensors(), expected.tensors(), strict=True))
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def errors(gpu, scene, views) -> dict[str, float]:
    """Of every product against the reference renderer in float64."""
    ours, oracle = gpu.linearize(scene, views), torch_backend.linearize(scene, views)
    tangent, cotangent = float32_tangent(scene), torch.randn_like(oracle.image)
    weights = torch.rand_like(oracle.image[:, :, 0])
    put = gpu.put
    return {
        "image": relative(ours.image, oracle.image),
        "jvp": relative(ours.jvp(put(tangent)), oracle.jvp(tangent)),
        "vjp": relative(ours.vjp(put(cotangent)), oracle.vjp(cotangent)),
        "product": relative(
            ours.gauss_newton_product(put(tangent), put(weights)), oracle.gauss_newton_product(tangent, weights)
        ),
        "gram": relative(ours.gram(put(weights)).core, oracle.gram(weights).core),
    }


def test_several_tiles_long_lists_and_rays_that_end(gpu_or_emulation):
    scene, views = float32_scene(gaussians=250, views=1, size=(45, 70), degree=1, seed=3, spread=0.7)
    found = errors(gpu_or_emulation, scene, views)
    assert max(found.values()) < CROSSING, found


@pytest.mark.parametrize("case", DEGENERATE)
def test_nothing_of_what_cannot_be_seen_reaches_the_others(gpu_or_emulation, case):
    scene, views = clear_scene(DEGENERATE[case], batch=2, gaussians=8)
    found = errors(gpu_or_emulation, scene, views)
    assert max(found.values()) < ROUGH, found
    lin = gpu_or_emulation.linearize(scene, views)
    ones = torch.ones_like(lin.image)
    gradient, gram = lin.vjp(ones), lin.gram(ones[:, :, 0])
    assert all(t.isfinite().all() for t in (*gradient.tensors(), gram.core, gram.sh_rest, lin.image))
    if case != "beside the camera":  # which some of the views do see
        assert all((t[:, 0] == 0).all() for t in (*gradient.tensors(), gram.core))
