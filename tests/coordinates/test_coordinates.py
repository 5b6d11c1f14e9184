"""θ is a dimensionless chart of scenes: exact at zero, invertible to first order, and safe at the edges."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenes import inner, random_scene

from diff3r_plugin import Gaussians
from diff3r_plugin.coordinates import Coordinates, LocalCoordinates
from diff3r_plugin.gaussians import rotation_matrices
from diff3r_plugin.render import linearize

ALL = ("means", "covariance", "opacity", "sh_dc", "sh_rest")


def scaled_scene(**options):
    """A scene in the form of scales and quats."""
    scene, views = random_scene(**options)
    B, N = scene.opacities.shape
    scales, quats = 0.05 + 0.3 * torch.rand(B, N, 3).double(), torch.randn(B, N, 4).double()
    return Gaussians.from_scales(scene.means, scales, quats, scene.opacities, scene.harmonics), views


@pytest.fixture(params=["covariances", "scales and quats"])
def scene_and_views(request):
    make = random_scene if request.param == "covariances" else scaled_scene
    return make(batch=2, gaussians=5)


@pytest.mark.parametrize("groups", [ALL, (*ALL, "poses"), ("covariance",), ("sh_rest", "means"), ("opacity",)])
def test_zero_is_the_reference_exactly(scene_and_views, groups):
    scene, views = scene_and_views
    coordinates = Coordinates(scene, views, groups)
    zero = torch.zeros(2, coordinates.num_unknowns, dtype=torch.float64)
    for a, b in zip(coordinates.decode(zero).tensors(), scene.tensors(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(coordinates.decode_cameras(zero, views).world_to_camera, views.world_to_camera)


def test_push_is_the_derivative_of_decode_and_pull_its_transpose(scene_and_views):
    scene, views = scene_and_views
    coordinates = Coordinates(scene, views, (*ALL, "poses"))
    theta = 0.3 * torch.randn(2, coordinates.num_unknowns, dtype=torch.float64)
    change = torch.randn_like(theta)
    local, step = LocalCoordinates(coordinates, theta), 1e-6

    def at(s):
        moved = theta + s * change
        cameras = coordinates.decode_cameras(moved, views).world_to_camera
        return (*coordinates.decode(moved).with_covariances().tensors(), cameras)

    numeric = [(a - b) / (2 * step) for a, b in zip(at(step), at(-step), strict=True)]
    tangent, cameras = local.jvp(change), local.jvp_cameras(change)
    for a, b in zip((*tangent.tensors(), cameras), numeric, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)

    cotangent = tangent.map(torch.randn_like)
    symmetric = 0.5 * (cotangent.covariances + cotangent.covariances.mT)
    cotangent = Gaussians(cotangent.means, symmetric, cotangent.opacities, cotangent.harmonics)
    camera_cotangent = torch.randn_like(cameras)
    forward = inner(cotangent, tangent) + (camera_cotangent * cameras).sum()
    torch.testing.assert_close(forward, (local.vjp(cotangent, camera_cotangent) * change).sum())


def test_encode_is_zero_with_the_inverse_derivative(scene_and_views):
    scene, views = scene_and_views
    coordinates = Coordinates(scene, views, ALL)
    zero = torch.zeros(2, coordinates.num_unknowns, dtype=torch.float64)
    change = torch.randn_like(zero)
    assert (coordinates.encode(scene) == 0).all()
    _, back = torch.func.jvp(lambda t: coordinates.encode(coordinates.decode(t)), (zero,), (change,))
    torch.testing.assert_close(back, change)


def test_gradient_through_encode_and_decode_is_that_of_the_scene_itself(scene_and_views):
    scene, views = scene_and_views
    leaf = scene.map(lambda t: t.clone().requires_grad_())
    coordinates = Coordinates(leaf, views, ALL)
    refined = coordinates.apply(coordinates.encode(leaf), leaf)
    cotangents = [torch.randn_like(t) for t in scene.tensors()]
    if scene.covariances is not None:
        cotangents[1] = cotangents[1] + cotangents[1].mT
    else:  # a quaternion's length means nothing: no gradient along it
        q = scene.quats
        cotangents[4] = cotangents[4] - q * (cotangents[4] * q).sum(-1, keepdim=True) / (q * q).sum(-1, keepdim=True)
    gradients = torch.autograd.grad(refined.tensors(), leaf.tensors(), cotangents)
    for gradient, cotangent in zip(gradients, cotangents, strict=True):
        torch.testing.assert_close(gradient, cotangent)


def test_units_do_not_matter():
    scene, views = random_scene(batch=2, gaussians=5)
    theta = 0.2 * torch.randn(2, 5 * 22, dtype=torch.float64)
    big = Gaussians(50 * scene.means, 2500 * scene.covariances, scene.opacities, scene.harmonics)
    a = Coordinates(scene, views, ALL).decode(theta)
    b = Coordinates(big, views, ALL).decode(theta)
    torch.testing.assert_close(50 * a.means, b.means)
    torch.testing.assert_close(2500 * a.covariances, b.covariances)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.integers(0, 100), st.sampled_from([torch.float32, torch.float64]))
@example(flat=0.84765625, thin=1e-5, seed=5, dtype=torch.float32)  # its third pivot cancels
def test_thin_gaussians_survive(flat, thin, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    axes = rotation_matrices(torch.randn(1, 1, 4, generator=generator))
    factor = (axes * torch.tensor([1.0, flat, thin])).to(dtype)
    scene = Gaussians(
        torch.zeros(1, 1, 3, dtype=dtype),
        factor @ factor.mT,
        torch.full((1, 1), 0.5, dtype=dtype),
        torch.zeros(1, 1, 3, 1, dtype=dtype),
    )
    coordinates = Coordinates(scene, None, ("means", "covariance"))
    assert coordinates.movable.all()
    theta = 0.1 * torch.ones(1, 9, dtype=dtype)
    moved = coordinates.decode(theta).covariances
    assert moved.isfinite().all()
    smallest = torch.linalg.eigvalsh(moved.double()).min()
    assert smallest > -1e-6
    assert coordinates.encode(scene).isfinite().all()


@pytest.mark.parametrize("form", ["covariances", "scales and quats"])
def test_edges_survive_the_round_trip_and_stay(form):
    scene, views = (random_scene if form == "covariances" else scaled_scene)(gaussians=6)
    opacities = scene.opacities.clone()
    opacities[0, 0], opacities[0, 1] = 0.0, 1.0
    shape = {name: getattr(scene, name) for name in ("covariances", "scales", "quats")}
    shape = {name: None if value is None else value.clone() for name, value in shape.items()}
    name = "covariances" if form == "covariances" else "scales"
    shape[name][0, 2] = 0  # padding
    shape[name][0, 3] = float("nan")
    scene = Gaussians(scene.means, opacities=opacities, harmonics=scene.harmonics, **shape)
    coordinates = Coordinates(scene, views, ALL)
    assert coordinates.movable[0].tolist() == [True, True, False, False, True, True]
    assert coordinates.valid[0].tolist() == [True, True, True, False, True, True]
    moved = coordinates.decode(torch.ones(1, coordinates.num_unknowns, dtype=torch.float64))
    assert moved.opacities[0, 0] == 0 and moved.opacities[0, 1] == 1
    assert torch.equal(moved.means[0, 2:4], scene.means[0, 2:4])
    assert torch.equal(moved.harmonics[0, 2], scene.harmonics[0, 2])
    leaf = scene.map(lambda t: t.clone().requires_grad_())
    refined = coordinates.apply(coordinates.encode(leaf), leaf)
    gradients = torch.autograd.grad(refined.means.sum() + refined.opacities.sum(), [leaf.means, leaf.opacities])
    for gradient in gradients:  # what does not move passes its gradient on as it is
        torch.testing.assert_close(gradient, torch.ones_like(gradient))


def test_indefinite_covariances_are_found():
    scene, _ = random_scene(gaussians=4)
    covariances = scene.covariances.clone()
    covariances[0, 1] = torch.diag(torch.tensor([1.0, 1.0, -0.1]))
    covariances[0, 2] = -torch.eye(3)
    valid = Coordinates(Gaussians(scene.means, covariances, scene.opacities, scene.harmonics), None, ("means",)).valid
    assert valid[0].tolist() == [True, False, False, True]


def test_gram_becomes_the_diagonal_and_blocks_in_theta(scene_and_views):
    scene, views = scene_and_views
    coordinates = Coordinates(scene, views, ALL)
    theta = 0.1 * torch.randn(2, coordinates.num_unknowns, dtype=torch.float64)
    local = LocalCoordinates(coordinates, theta)
    lin = linearize(local.gaussians, views, "torch")
    weights = torch.rand_like(views.images[:, :, 0])
    gram = lin.gram(weights)
    diagonal, (blocks, unknowns) = local.gram_diagonal(gram), local.gram_blocks(gram)

    def column(i):
        unit = torch.zeros_like(theta)
        unit[:, i] = 1
        return local.vjp(lin.gauss_newton_product(local.jvp(unit), weights))

    for i in range(0, coordinates.num_unknowns, 7):
        torch.testing.assert_close(diagonal[:, i], column(i)[:, i], rtol=1e-8, atol=1e-10)
    for i, position in enumerate(unknowns[3].tolist()):
        torch.testing.assert_close(blocks[:, 3, i], column(position)[:, unknowns[3]], rtol=1e-8, atol=1e-10)


def test_unknown_groups_are_named():
    scene, views = random_scene()
    with pytest.raises(ValueError, match="'color'"):
        Coordinates(scene, views, ("means", "color"))
    with pytest.raises(ValueError, match="need the views"):
        Coordinates(scene, None, ("poses",))


@pytest.mark.parametrize("unknown", [0, 1, 2])
def test_a_covariance_that_its_dtype_cannot_hold_is_told(scene_and_views, unknown):
    """In the second scene only; four orders of magnitude are left for what a camera multiplies it by."""
    scene = scene_and_views[0].map(torch.Tensor.float)
    coordinates = Coordinates(scene, None, ("covariance",))
    theta = torch.zeros(2, coordinates.num_unknowns)
    size = coordinates.scale[1, 3, 0]
    theta[1, 3 * 6 + unknown] = (1e15 / size).log()
    assert coordinates.representable(theta).tolist() == [True, True]
    assert all(t.isfinite().all() for t in coordinates.decode(theta).tensors())
    theta[1, 3 * 6 + unknown] = (1e20 / size).log()
    assert coordinates.representable(theta).tolist() == [True, False]
    assert coordinates.representable(torch.full_like(theta, torch.nan)).tolist() == [False, False]
    assert Coordinates(scene, None, ("means",)).representable(theta[:, :30]).all(), "covariances stay as they are"


def test_a_scene_of_such_a_size_is_not_valid(scene_and_views):
    scene, _ = scene_and_views
    assert Coordinates(scene, None, ("means",)).valid.all()
    if scene.scales is None:
        blown = Gaussians(scene.means, scene.covariances * 1e306, scene.opacities, scene.harmonics)
    else:
        blown = Gaussians.from_scales(scene.means, scene.scales * 1e155, scene.quats, scene.opacities, scene.harmonics)
    assert not Coordinates(blown, None, ("means",)).valid.any()
