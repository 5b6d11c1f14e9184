"""The native backend against the oracle over random scenes of every kind, and what only it promises."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import inner, random_scene, random_tangent

from diff3r_plugin import Gaussians
from diff3r_plugin.render import native_backend, torch_backend

pytestmark = pytest.mark.skipif(not native_backend.is_available(), reason="no compiler here")


@st.composite
def scenes(draw):
    """Scenes with splats from tiny to larger than the image, behind the camera, beside it, opaque and invisible."""
    sizes = st.integers(1, 40)
    scene, views = random_scene(
        batch=draw(st.integers(1, 2)),
        gaussians=draw(st.integers(0, 60)),
        views=draw(st.integers(1, 3)),
        size=(draw(sizes), draw(sizes)),
        degree=draw(st.integers(0, 4)),
        seed=draw(st.integers(0, 10_000)),
    )
    spread = draw(st.sampled_from([0.0, 1.0, 3.0]))
    factors = torch.exp(spread * torch.randn_like(scene.opacities))
    opacities = torch.where(
        torch.rand_like(scene.opacities) < 0.2, draw(st.sampled_from([0.0, 1.0, 0.003])), scene.opacities
    )
    means = scene.means - torch.tensor([0.0, 0, draw(st.sampled_from([0.0, 2.5]))])  # some behind the camera
    if scene.num_gaussians > 1 and draw(st.booleans()):
        means = torch.where(torch.rand_like(means[..., :1]) < 0.3, means[:, :1], means)  # equal depths
    covariances = scene.covariances * factors[..., None, None]
    return Gaussians(means, covariances, opacities, scene.harmonics), views


def assert_close(ours, expected, name):
    scale = expected.abs().max().clamp_min(1e-9) if expected.numel() else 1.0
    assert float(((ours - expected).abs() / scale).max() if ours.numel() else 0.0) < 1e-8, name


@settings(max_examples=30, deadline=None)
@given(scenes())
def test_agrees_with_the_oracle(scene_and_views):
    scene, views = scene_and_views
    ours, oracle = native_backend.linearize(scene, views), torch_backend.linearize(scene, views)
    tangent, cotangent = random_tangent(scene), torch.randn_like(views.images)
    camera_tangent = torch.randn_like(views.world_to_camera)
    weights = torch.rand_like(views.images[:, :, 0])
    assert_close(ours.image, oracle.image, "image")
    assert_close(ours.jvp(tangent, camera_tangent), oracle.jvp(tangent, camera_tangent), "jvp")
    (gradient, cameras), (expected, expected_cameras) = (lin.vjp_cameras(cotangent) for lin in (ours, oracle))
    names = ("means", "covariances", "opacities", "harmonics")
    for name, a, b in zip(names, gradient.tensors(), expected.tensors(), strict=True):
        assert_close(a, b, name)
    assert_close(cameras, expected_cameras, "world_to_camera")
    if scene.num_gaussians:
        gram, expected_gram = ours.gram(weights), oracle.gram(weights)
        assert_close(gram.core, expected_gram.core, "gram")
        assert_close(gram.sh_rest, expected_gram.sh_rest, "sh_rest")


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_products_agree_with_each_other(scene_and_views):
    """⟨Jv, u⟩ = ⟨v, Jᵀu⟩, and the fused product is the composition of the two."""
    scene, views = scene_and_views
    lin = native_backend.linearize(scene, views)
    tangent, cotangent = random_tangent(scene), torch.randn_like(views.images)
    camera_tangent = torch.randn_like(views.world_to_camera)
    image_tangent = lin.jvp(tangent, camera_tangent)
    gradient, camera_gradient = lin.vjp_cameras(cotangent)
    forward = float((image_tangent * cotangent).sum())
    backward = float(inner(gradient, tangent) + (camera_gradient * camera_tangent).sum())
    size = float(image_tangent.norm() * cotangent.norm())
    assert abs(forward - backward) <= 1e-10 * size + 1e-12
    assert torch.equal(camera_gradient[..., 3, :], torch.zeros_like(camera_gradient[..., 3, :]))

    weights = torch.rand_like(views.images[:, :, 0])
    fused = lin.gauss_newton_product(tangent, weights)
    composed = lin.vjp(weights[:, :, None] * lin.jvp(tangent))
    for a, b in zip(fused.tensors(), composed.tensors(), strict=True):
        assert_close(a, b, "product")


def test_long_lists_outgrow_the_memory_of_the_fused_product():
    """More splats in one tile than its alphas can be kept for: the rest is computed again."""
    scene, views = random_scene(gaussians=6000, size=(16, 16), degree=0, views=1)
    scene = Gaussians(scene.means, scene.covariances, 0.02 * scene.opacities + 0.004, scene.harmonics)
    lin = native_backend.linearize(scene, views)
    tangent, weights = random_tangent(scene), torch.rand_like(views.images[:, :, 0])
    fused = lin.gauss_newton_product(tangent, weights)
    composed = lin.vjp(weights[:, :, None] * lin.jvp(tangent))
    for a, b in zip(fused.tensors(), composed.tensors(), strict=True):
        assert_close(a, b, "product")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_do_not_change_a_bit(dtype):
    scene, views = random_scene(batch=2, gaussians=20_000, views=2, size=(50, 70), dtype=dtype)
    scene = Gaussians(scene.means, 0.05 * scene.covariances, scene.opacities, scene.harmonics)
    tangent, cotangent, weights = (
        random_tangent(scene),
        torch.randn_like(views.images),
        torch.rand_like(views.images[:, :, 0]),
    )
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            lin = native_backend.linearize(scene, views)
            gradient, cameras = lin.vjp_cameras(cotangent)
            gram = lin.gram(weights)
            product = lin.gauss_newton_product(tangent, weights)
            results.append(
                [lin.image, lin.jvp(tangent), *gradient.tensors(), cameras, *product.tensors(), gram.core, gram.sh_rest]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_strides_and_other_dtypes_are_read_correctly():
    scene, views = random_scene(batch=2, gaussians=9)
    expected = native_backend.linearize(scene, views)

    def strided(t):
        return torch.stack([t, torch.full_like(t, torch.nan)], -1)[..., 0]

    odd_views = views.replace(
        images=None,
        image_size=views.image_size,
        world_to_camera=views.world_to_camera.mT.contiguous().mT,
        intrinsics=strided(views.intrinsics),
    )
    odd = native_backend.linearize(scene.map(strided), odd_views)
    cotangent = torch.randn_like(views.images)
    assert torch.equal(odd.image, expected.image)
    for a, b in zip(odd.vjp(strided(cotangent)).tensors(), expected.vjp(cotangent).tensors(), strict=True):
        assert torch.equal(a, b)
    half = native_backend.linearize(scene.to(torch.bfloat16), views.to(torch.float32))
    assert half.image.dtype == torch.float32


def test_works_in_inference_mode_and_on_scales_and_quats():
    with torch.inference_mode():
        scene, views = random_scene()
        B, N = scene.opacities.shape
        scales, quats = torch.rand(B, N, 3, dtype=torch.float64), torch.randn(B, N, 4, dtype=torch.float64)
        scene = Gaussians.from_scales(scene.means, scales, quats, scene.opacities, scene.harmonics)
        expected = native_backend.render_image(scene.with_covariances(), views)
        assert torch.equal(native_backend.render_image(scene, views), expected)
        assert native_backend.linearize(scene, views).vjp(torch.ones_like(expected)).means.isfinite().all()


def test_gradcheck_in_both_modes():
    from diff3r_plugin.render import render

    scene, views = random_scene(gaussians=4, size=(6, 7), views=1)
    inputs = [t.clone().requires_grad_() for t in (*scene.tensors(), views.world_to_camera)]

    def rendered(means, covariances, opacities, harmonics, world_to_camera):
        symmetric = 0.5 * (covariances + covariances.mT)
        moved = Gaussians(means, symmetric, opacities, harmonics)
        return render(moved, views.replace(world_to_camera=world_to_camera), "native")

    assert torch.autograd.gradcheck(rendered, inputs, check_forward_ad=True, eps=1e-7, atol=1e-5)


def test_inputs_that_change_in_place_are_noticed():
    scene, views = random_scene()
    lin = native_backend.linearize(scene, views)
    scene.means.add_(1.0)
    with pytest.raises(RuntimeError, match=r"means was changed in place.*linearize again"):
        lin.vjp(torch.zeros_like(views.images))


def test_errors_name_what_was_given():
    scene, views = random_scene(batch=2)
    lin = native_backend.linearize(scene, views)
    with pytest.raises(ValueError, match=r"must have shape \[2, 2, 3, 12, 16\], got \[1\]"):
        lin.vjp(torch.zeros(1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"pixel_weights must have shape \[2, 2, 12, 16\]"):
        lin.gram(torch.zeros_like(views.images))
    with pytest.raises(ValueError, match="harmonics"):
        lin.jvp(random_scene(batch=2, degree=2)[0])
    with pytest.raises(ValueError, match=r"2 scenes .* of 1"):
        native_backend.linearize(scene, random_scene(batch=1)[1])
    with pytest.raises(ValueError, match=r"on meta.*\.cpu\(\)"):
        native_backend.NativeLinearization(scene.to("meta"), views)


BLOCKS = """
import torch
from diff3r_plugin.kernels.loading.library_cpu import load

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

def use(mib):
    load().empty((mib << 18,), torch.float32).fill_(1.0)

use(2)
start = resident()
for mib in range(4, 44, 2):  # as a scene that grows
    use(mib)
print(resident() - start > 300)
for _ in range(1100):
    use(2)
print(resident() - start < 20)
"""


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="no block is used again under a sanitizer")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_blocks_of_sizes_that_are_over_are_given_back():
    said = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, timeout=600)
    assert said.stdout.split() == ["True", "True"], said.stderr
