"""No input crashes the native backend: what cannot be rendered is left out, the rest is rendered as if alone."""

import pytest
import torch
from scenes import random_scene, random_tangent

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import native_backend, native_scene

pytestmark = pytest.mark.skipif(not native_backend.is_available(), reason="no compiler here")


def all_results(scene, views):
    lin = native_backend.linearize(scene, views)
    B, V, H, W = views.batch_size, views.num_views, *views.image_size
    cotangent, weights = torch.ones(B, V, 3, H, W).to(scene.means), torch.ones(B, V, H, W).to(scene.means)
    tangent = scene.map(torch.ones_like)
    gradient, cameras = lin.vjp_cameras(cotangent)
    product, gram = lin.gauss_newton_product(tangent, weights), lin.gram(weights)
    image = native_backend.render_image(scene, views)
    assert torch.equal(image, lin.image)
    return {
        "image": lin.image,
        "jvp": lin.jvp(tangent),
        "cameras": cameras,
        **{f"vjp {i}": t for i, t in enumerate(gradient.tensors())},
        **{f"product {i}": t for i, t in enumerate(product.tensors())},
        "core": gram.core,
        "rest": gram.sh_rest,
    }


FIELDS = pytest.mark.parametrize("field", range(4), ids=["means", "covariances", "opacities", "harmonics"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
@FIELDS
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_left_out(dtype, field, bad):
    scene, views = random_scene(batch=2, gaussians=40, views=2, size=(18, 21), degree=2, dtype=dtype)
    without = [t.clone() for t in scene.tensors()]
    without[2][:, ::3] = 0.0
    tensors = [t.clone() for t in scene.tensors()]
    tensors[field][:, ::3] = bad
    results, expected = all_results(Gaussians(*tensors), views), all_results(Gaussians(*without), views)
    for name, value in results.items():
        torch.testing.assert_close(value, expected[name], msg=name)


@DTYPES
@FIELDS
@pytest.mark.parametrize("bad", [1e38, -1e38, 1e-38])
def test_values_that_overflow_stay_in_their_scene(dtype, field, bad):
    scene, views = random_scene(batch=2, gaussians=40, views=2, size=(18, 21), degree=2, dtype=dtype)
    tensors = [t.clone() for t in scene.tensors()]
    tensors[field][0, ::3] = bad
    results, expected = all_results(Gaussians(*tensors), views), all_results(scene, views)
    for name, value in results.items():
        assert torch.equal(value[1], expected[name][1]), name


@pytest.mark.parametrize("field", ["world_to_camera", "intrinsics", "near", "far"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_cameras_that_mean_nothing_see_the_background(field, bad):
    scene, views = random_scene(views=2)
    values = getattr(views, field).clone()
    values[:, 0] = bad
    results = all_results(scene, views.replace(**{field: values}))
    assert all(t.isfinite().all() for t in results.values())
    good = native_backend.render_image(scene, views)
    assert torch.equal(results["image"][:, 1], good[:, 1])
    if not (field == "near" and bad == 0.0) and not (field == "far" and bad == float("inf")):
        background = views.background[:, None, None].expand_as(good[0, 0])
        torch.testing.assert_close(results["image"][0, 0], background)


@DTYPES
@pytest.mark.parametrize("batch, views, gaussians", [(0, 2, 5), (2, 0, 5), (2, 2, 0), (0, 0, 0)])
@pytest.mark.parametrize("size", [(0, 0), (0, 5), (1, 1), (16, 16), (17, 1)])
def test_nothing_to_do_is_done(dtype, batch, views, gaussians, size):
    scene = Gaussians(
        torch.zeros(batch, gaussians, 3, dtype=dtype),
        torch.zeros(batch, gaussians, 3, 3, dtype=dtype),
        torch.zeros(batch, gaussians, dtype=dtype),
        torch.zeros(batch, gaussians, 3, 4, dtype=dtype),
    )
    eye = torch.eye(4, dtype=dtype).expand(batch, views, 4, 4)
    cameras = Views(eye, torch.eye(3, dtype=dtype).expand(batch, views, 3, 3), image_size=size, background=(1, 0, 0.5))
    results = all_results(scene, cameras)
    assert results["image"].shape == (batch, views, 3, *size)
    assert all(not t.count_nonzero() for name, t in results.items() if name != "image")
    background = cameras.background[:, None, None].expand(batch, views, 3, *size)
    assert torch.equal(results["image"], background)


@DTYPES
@pytest.mark.parametrize("variances", [(1e12, 1e12, 1e12), (1e8, 1e-12, 1e-12), (0, 0, 0), (1e6, 1e6, 0), (-1, 1, 1)])
def test_enormous_flat_and_needle_shaped_splats(dtype, variances):
    scene, views = random_scene(gaussians=30, size=(40, 50), dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(1, 30, 3, 3, dtype=torch.float64))[0]
    covariances = axes @ torch.diag(torch.tensor(variances, dtype=torch.float64)) @ axes.mT
    scene = Gaussians(scene.means, covariances, scene.opacities, scene.harmonics).to(dtype)
    results = all_results(scene, views.to(dtype))
    assert results["image"].isfinite().all()
    assert results["image"].min() >= 0


def test_what_is_left_out_is_counted():
    scene, views = random_scene(gaussians=10, views=1)
    means = scene.means.clone()
    means[0, 0] = torch.nan
    means[0, 1, 2] = -5.0  # behind the camera: not degenerate
    lin = native_backend.linearize(Gaussians(means, *scene.tensors()[1:]), views)
    assert lin.degenerate == 1
    assert 0 < lin.visible <= 8
    assert lin.intersections >= lin.visible and lin.bytes > 0


def test_too_many_tiles_raise_and_name_the_sizes(monkeypatch):
    scene, views = random_scene(gaussians=50, size=(64, 64))
    monkeypatch.setattr(native_scene, "memory_limit", lambda: 1000)
    with pytest.raises(MemoryError, match=r"50 Gaussians in 1 x 2 images of 64 x 64 pixels cover \d+ tiles"):
        native_backend.linearize(scene, views)


def test_tangents_that_are_not_finite_stay_in_their_scene():
    scene, views = random_scene(batch=2)
    tangent = random_tangent(scene)
    tangent.means[0] = torch.nan
    moved = native_backend.linearize(scene, views).jvp(tangent)
    assert moved[0].isnan().any() and moved[1].isfinite().all()
