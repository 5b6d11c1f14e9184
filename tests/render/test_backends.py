"""What every backend must do: the same test body over all of them."""

import math

import pytest
import torch
from on_device import CROSSING, NAME, close, limit
from scenes import inner, moved, random_scene, random_tangent

from benchmarks.gpu.scenes import clear_scene
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import linearize, render

SHAPES = [
    dict(batch=1, gaussians=12, views=2, size=(12, 16), degree=1),
    dict(batch=3, gaussians=9, views=1, size=(17, 19), degree=0),
    dict(batch=2, gaussians=7, views=3, size=(8, 33), degree=3),
    dict(batch=1, gaussians=5, views=1, size=(1, 1), degree=2),
    dict(batch=1, gaussians=6, views=2, size=(16, 16), degree=4),
]


@pytest.fixture(params=SHAPES, ids=lambda s: "b{batch}n{gaussians}v{views}d{degree}".format(**s))
def scene_and_views(request, backend):
    # In float32 a pixel near a threshold may fall on the other side of it.
    return clear_scene(**request.param) if backend == NAME else random_scene(**request.param)


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def assert_same_scene(a: Gaussians, b: Gaussians, tolerance: float) -> None:
    for x, y in zip(a.tensors(), b.tensors(), strict=True):
        assert relative(x, y) < tolerance


def assert_agrees_with_the_oracle(backend, scene, views) -> None:
    ours, oracle = linearize(scene, views, backend), linearize(scene, views, "torch")
    tangent, cotangent = random_tangent(scene), torch.randn_like(views.images)
    camera_tangent = torch.randn_like(views.world_to_camera)
    camera_tangent[..., 3, :] = 0
    weights, small = torch.rand_like(views.images[:, :, 0]), limit(backend, 1e-10)

    assert relative(ours.image, oracle.image) < limit(backend, 1e-12)
    assert relative(ours.jvp(tangent), oracle.jvp(tangent)) < small
    assert relative(ours.jvp(tangent, camera_tangent), oracle.jvp(tangent, camera_tangent)) < small
    assert_same_scene(ours.vjp(cotangent), oracle.vjp(cotangent), small)
    (ours_scene, ours_cameras), (oracle_scene, oracle_cameras) = (lin.vjp_cameras(cotangent) for lin in (ours, oracle))
    assert_same_scene(ours_scene, oracle_scene, small)
    assert relative(ours_cameras, oracle_cameras) < small
    assert_same_scene(ours.gauss_newton_product(tangent, weights), oracle.gauss_newton_product(tangent, weights), small)
    ours_gram, oracle_gram = ours.gram(weights), oracle.gram(weights)
    assert relative(ours_gram.core, oracle_gram.core) < small
    assert relative(ours_gram.sh_rest, oracle_gram.sh_rest) < small


def test_agrees_with_the_oracle_in_values_and_all_products(backend, scene_and_views):
    assert_agrees_with_the_oracle(backend, *scene_and_views)


@pytest.mark.parametrize("dilation", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("antialiased", [True, False], ids=["antialiased", "classic"])
def test_agrees_with_the_oracle_in_every_image_formation(backend, antialiased, dilation):
    scene, views = (clear_scene if backend == NAME else random_scene)(**SHAPES[2])
    assert_agrees_with_the_oracle(backend, scene, views.replace(antialiased=antialiased, dilation=dilation))


def _flat(variances) -> tuple[Gaussians, Views]:
    """One Gaussian that faces the camera, its center that of a pixel; variances along x and y in px² as given."""
    scene, views = random_scene(gaussians=1, views=1, size=(9, 9), degree=0)
    covariance = torch.diag_embed(torch.tensor([*variances, 0.0]).double())[None, None]
    focal = torch.tensor([[2.0, 0, 4.5], [0, 2, 4.5], [0, 0, 1]]).double()
    views = views.replace(world_to_camera=torch.eye(4).double()[None, None], intrinsics=focal[None, None])
    means = torch.tensor([[[0.0, 0, 2]]]).double()
    return Gaussians(means, covariance, torch.full((1, 1), 0.7).double(), scene.harmonics), views


def test_the_dilation_widens_a_splat_and_antialiasing_dims_it(backend):
    scene, views = _flat((0.5, 0.2))
    color = (scene.harmonics[0, 0, :, 0] * 0.28209479177387814 + 0.5).clamp_min(0)
    for antialiased, dimming in ((False, 1.0), (True, (0.5 * 0.2 / (0.9 * 0.6)) ** 0.5)):
        image = render(scene, views.replace(antialiased=antialiased, dilation=0.4), backend)[0, 0]
        for column, row in ((4, 4), (5, 4), (4, 5)):
            alpha = 0.7 * dimming * math.exp(-0.5 * ((column - 4) ** 2 / 0.9 + (row - 4) ** 2 / 0.6))
            expected = alpha * color + (1 - alpha) * views.background
            torch.testing.assert_close(image[:, row, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variances", [(0.0, 0.5), (0.0, 0.0)])
def test_an_antialiased_splat_without_area_is_not_drawn(backend, variances):
    scene, views = _flat(variances)
    lin = linearize(scene, views.replace(antialiased=True), backend)
    torch.testing.assert_close(lin.image, views.background[:, None, None].expand_as(lin.image))
    gradient = lin.vjp(torch.ones_like(lin.image))
    assert all((t == 0).all() for t in gradient.tensors())
    assert (lin.gram(torch.ones_like(lin.image[:, :, 0])).core == 0).all()
    assert (lin.jvp(random_tangent(scene)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("between", [0, 2], ids=["nothing_between", "invisible_between"])
@pytest.mark.parametrize("opaque", [2, 3, 5])
def test_the_second_saturated_splat_ends_the_ray_in_every_precision(backend, dtype, between, opaque):
    """Two in a row leave (1 - 0.99)² of the light, 1e-4 to the last digit: no rounding may decide what is rendered."""
    count = opaque + between
    scene, views = random_scene(gaussians=count, views=1, size=(4, 4), degree=0)
    opacities = torch.tensor([[1.0, *[0.5 / 255] * between, *[1.0] * (opaque - 1)]])
    means = torch.tensor([0.0, 0.0, 1.0]) * torch.arange(2, 2 + count)[None, :, None]
    scene = Gaussians(means, 1e4 * torch.eye(3).expand(1, count, 3, 3), opacities, scene.harmonics).to(dtype)
    views = views.replace(world_to_camera=torch.eye(4)[None, None]).to(dtype)
    lin = linearize(scene, views, backend)
    first = (scene.harmonics[0, 0, :, 0] * 0.28209479177387814 + 0.5).clamp_min(0)
    expected = 0.99 * first + 0.01 * views.background
    torch.testing.assert_close(lin.image, expected[:, None, None].expand(1, 1, 3, 4, 4), rtol=1e-5, atol=1e-6)
    # What is not rendered has no derivative.
    gradient = lin.vjp(torch.ones_like(lin.image))
    assert (gradient.harmonics[0, 0] != 0).any() and (gradient.harmonics[0, 1:] == 0).all()
    color = Gaussians(*(torch.zeros_like(t) for t in scene.tensors()[:3]), torch.ones_like(scene.harmonics))
    ones = torch.ones_like(lin.image[:, :, 0])
    assert (lin.gauss_newton_product(color, ones).harmonics[0, 1:] == 0).all()
    assert (lin.gram(ones).core[0, 1:] == 0).all()
    torch.testing.assert_close(lin.jvp(color), torch.full_like(lin.image, 0.99 * 0.28209479177387814))


@pytest.mark.parametrize("seed", range(10))
def test_gaussians_with_one_mean_are_drawn_in_their_order(backend, seed):
    """As several Gaussians of one pixel are: a depth that rounds differently for equal means would shuffle them."""
    scene, views = random_scene(gaussians=5 + 6 * seed, views=2, size=(12, 12), degree=0, seed=seed)
    shared = torch.where(torch.rand_like(scene.means[..., :1]) < 0.3, scene.means[:, :1], scene.means)
    scene = Gaussians(shared, *scene.tensors()[1:])
    assert relative(render(scene, views, backend), render(scene, views, "torch")) < limit(backend, 1e-12, CROSSING)


def test_float32_agrees_with_float64(backend):
    scene, views = random_scene(gaussians=30, size=(24, 24), degree=2)
    exact = render(scene, views, "torch")
    rough = render(scene.to(torch.float32), views.to(torch.float32), backend)
    assert rough.dtype == torch.float32
    # A splat may fall on either side of the 1/255 threshold, which moves a pixel by less than that.
    assert (rough - exact).abs().max() < 1 / 255
    assert relative(rough.double(), exact) < 1e-3


def test_jvp_and_vjp_are_adjoint(backend, scene_and_views):
    scene, views = scene_and_views
    lin = linearize(scene, views, backend)
    tangent, cotangent = random_tangent(scene), torch.randn_like(views.images)
    camera_tangent = torch.randn_like(views.world_to_camera)
    camera_tangent[..., 3, :] = 0
    gradient, camera_gradient = lin.vjp_cameras(cotangent)
    forward = (lin.jvp(tangent, camera_tangent) * cotangent).sum()
    backward = inner(gradient, tangent) + (camera_gradient * camera_tangent).sum()
    close(backend, forward, backward, rtol=1e-9, atol=1e-9)


def test_jvp_is_the_limit_of_central_differences(backend, scene_and_views):
    _require_float64(backend)
    scene, views = scene_and_views
    tangent, step = random_tangent(scene), 1e-6
    camera_tangent = torch.randn_like(views.world_to_camera)
    camera_tangent[..., 3, :] = 0

    def image(s):
        cameras = views.replace(world_to_camera=views.world_to_camera + s * camera_tangent)
        return render(moved(scene, tangent, s), cameras, backend)

    difference = (image(step) - image(-step)) / (2 * step)
    assert relative(linearize(scene, views, backend).jvp(tangent, camera_tangent), difference) < 1e-6


def _require_float64(backend):
    if backend == NAME:
        pytest.skip("differences of renderings in float32 say little")


def test_gauss_newton_matrix_is_symmetric_and_positive(backend):
    scene, views = random_scene(batch=2)
    lin = linearize(scene, views, backend)
    weights = torch.rand_like(views.images[:, :, 0])
    a, b = random_tangent(scene, 1), random_tangent(scene, 2)
    Ha, Hb = lin.gauss_newton_product(a, weights), lin.gauss_newton_product(b, weights)
    close(backend, inner(Ha, b), inner(Hb, a), rtol=1e-9, atol=1e-9)
    assert inner(Ha, a) > 0
    expected = (weights[:, :, None] * lin.jvp(a) ** 2).sum()
    close(backend, inner(Ha, a), expected, rtol=1e-9, atol=1e-9)


def test_gram_is_the_block_diagonal_of_the_gauss_newton_matrix(backend):
    scene, views = random_scene(gaussians=4, degree=1)
    weights = torch.rand_like(views.images[:, :, 0])
    lin = linearize(scene, views, backend)
    gram = lin.gram(weights)
    for n in range(4):
        for index, direction in enumerate(_core_directions(scene, n)):
            row = _core_numbers(lin.gauss_newton_product(direction, weights))[n]
            close(backend, gram.core[0, n, index], row, rtol=1e-9, atol=1e-9)
    for k in range(3):
        for channel in range(3):
            direction = scene.map(torch.zeros_like)
            direction.harmonics[0, 2, channel, 1 + k] = 1
            product = lin.gauss_newton_product(direction, weights)
            close(
                backend, gram.sh_rest[0, 2, channel, k], product.harmonics[0, 2, channel, 1 + k], rtol=1e-9, atol=1e-12
            )


def _core_directions(scene, n):
    entries = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    for index in range(13):
        d = scene.map(torch.zeros_like)
        if index < 3:
            d.means[0, n, index] = 1
        elif index < 9:
            i, j = entries[index - 3]
            d.covariances[0, n, i, j] = d.covariances[0, n, j, i] = 1
        elif index == 9:
            d.opacities[0, n] = 1
        else:
            d.harmonics[0, n, index - 10, 0] = 1
        yield d


def _core_numbers(cotangent):
    c = cotangent.covariances[0]
    packed = [c[:, i, j] * (1 if i == j else 2) for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    opacity = cotangent.opacities[0, :, None]
    return torch.cat([cotangent.means[0], torch.stack(packed, -1), opacity, cotangent.harmonics[0, :, :, 0]], -1)


@pytest.mark.parametrize("check_forward_ad", [False, True])
def test_render_is_a_differentiable_function_in_both_modes(backend, check_forward_ad):
    _require_float64(backend)
    scene, views = random_scene(gaussians=3, size=(5, 6), views=1)

    def image(means, factor, opacities, harmonics, world_to_camera):
        cameras = views.replace(world_to_camera=world_to_camera)
        return render(Gaussians(means, factor @ factor.mT, opacities, harmonics), cameras, backend)

    factor = torch.linalg.cholesky(scene.covariances)
    inputs = (scene.means, factor, scene.opacities, scene.harmonics, views.world_to_camera)
    leaves = tuple(t.clone().requires_grad_() for t in inputs)
    assert torch.autograd.gradcheck(
        image, leaves, check_forward_ad=check_forward_ad, check_batched_grad=False, atol=1e-5
    )


def test_scales_and_quats_render_as_their_covariances_do(backend):
    scene, views = random_scene()
    scales, quats = 0.05 + 0.2 * torch.rand(1, 12, 3).double(), torch.randn(1, 12, 4).double()
    by_scales = Gaussians.from_scales(scene.means, scales, quats, scene.opacities, scene.harmonics)
    close(backend, render(by_scales, views, backend), render(by_scales.with_covariances(), views, backend))


def test_what_cannot_be_seen_changes_nothing_and_gets_no_gradient(backend):
    scene, views = random_scene(gaussians=12)
    without = Gaussians(*(t[:, 6:] for t in scene.tensors()))
    means, covariances, opacities = scene.means.clone(), scene.covariances.clone(), scene.opacities.clone()
    means[0, 0, 2] = -4  # behind
    means[0, 1] = float("nan")
    means[0, 2] = torch.tensor([1e4, 0.0, 3])  # far outside the image
    covariances[0, 3] = float("inf")
    opacities[0, 4] = 0
    covariances[0, 5] = -torch.eye(3)  # no Gaussian at all
    scene = Gaussians(means, covariances, opacities, scene.harmonics)
    lin = linearize(scene, views, backend)
    close(backend, lin.image, render(without, views, backend))
    gradient = lin.vjp(torch.randn_like(lin.image))
    for tensor in gradient.tensors():
        assert tensor.isfinite().all()
    assert (gradient.means[0, [0, 1, 2, 3, 5]] == 0).all()
    jvp = lin.jvp(random_tangent(scene))
    assert jvp.isfinite().all()
    gram = lin.gram(torch.ones_like(lin.image[:, :, 0]))
    assert gram.core.isfinite().all() and (gram.core[0, [0, 1, 2, 3, 5]] == 0).all()


def test_near_and_far_limits(backend):
    scene, views = random_scene(gaussians=8, views=1)
    depths = scene.means[0] @ views.world_to_camera[0, 0, 2, :3] + views.world_to_camera[0, 0, 2, 3]
    ordered = depths.sort().values
    near, far = (0.5 * (ordered[i] + ordered[i + 1]).item() for i in (2, 4))
    kept = (depths > near) & (depths < far)
    assert kept.sum() == 2
    expected = render(Gaussians(*(t[:, kept] for t in scene.tensors())), views, backend)
    close(backend, render(scene, views.replace(near=near, far=far), backend), expected)


@pytest.mark.parametrize("shape", [(0, 5, 2), (1, 0, 2), (2, 5, 0)])
def test_nothing_to_draw(backend, shape):
    batch, gaussians, views_ = shape
    scene, views = random_scene(batch=batch, gaussians=gaussians, views=views_)
    lin = linearize(scene, views, backend)
    assert lin.image.shape == (batch, views_, 3, 12, 16)
    if gaussians == 0:
        close(backend, lin.image, views.background[:, None, None].expand_as(lin.image), rtol=0, atol=0)
    gradient = lin.vjp(torch.ones_like(lin.image))
    assert gradient.means.shape == scene.means.shape and (gradient.means == 0).all()
    assert lin.jvp(random_tangent(scene)).shape == lin.image.shape
    assert lin.gram(torch.ones_like(lin.image[:, :, 0])).core.shape == (batch, gaussians, 13, 13)


def test_strided_and_half_precision_inputs(backend):
    scene, views = random_scene(batch=2)
    strided = scene.map(lambda t: t.transpose(0, 1).contiguous().transpose(0, 1))
    close(backend, render(strided, views, backend), render(scene, views, backend))
    half = scene.to(torch.bfloat16)
    assert render(half, views.to(torch.float32), backend).dtype == torch.float32


def test_unknown_backend_names_the_known_ones():
    scene, views = random_scene()
    with pytest.raises(ValueError, match=r"'cuda-magic'.*'native'.*'torch'"):
        render(scene, views, "cuda-magic")
    with pytest.raises(ValueError, match="3 scenes but Views 1"):
        render(random_scene(batch=3)[0], views)
