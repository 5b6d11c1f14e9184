"""The fused linearization in θ is the composed one: the same renderings and products, for every chart and group."""

import pytest
import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.coordinates import LARGEST_LOGIT, Coordinates
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.linearized import CHARTED, ComposedLinearization, FusedLinearization, linearize_theta
from diff3r_plugin.render import render

GAUSSIANS = 37  # no whole number of registers
EVERYTHING = tuple(g for g in GROUPS if g != "exposure")  # which acts on what is rendered
SOME = ("covariance", "sh_rest")


def _scene(form: str, degree: int, dtype=torch.float64) -> tuple[Gaussians, Views]:
    """Two scenes of two views; among the Gaussians some that cannot move, or not in every way."""
    torch.manual_seed(degree)
    means = torch.rand(2, GAUSSIANS, 3) * torch.tensor([2.0, 2.0, 2.0]) + torch.tensor([-1.0, -1.0, 3.0])
    scales, quats = 0.05 + 0.3 * torch.rand(2, GAUSSIANS, 3), torch.randn(2, GAUSSIANS, 4)
    opacities = torch.rand(2, GAUSSIANS)
    opacities[:, 0], opacities[:, 1] = 0, 1
    scales[:, 2] = 0
    harmonics = 0.3 * torch.randn(2, GAUSSIANS, 3, (degree + 1) ** 2)
    means[1, 3], harmonics[1, 4] = float("nan"), float("inf")
    g = Gaussians.from_scales(means, scales, quats, opacities, harmonics).to(dtype)
    if form == "covariances":
        g = g.with_covariances()
    K = torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]], dtype=dtype).expand(2, 2, 3, 3)
    poses = torch.eye(4, dtype=dtype).repeat(2, 2, 1, 1)
    poses[:, 1, 0, 3] = 0.3
    return g, Views(poses, K, image_size=(24, 32))


def _fused(coordinates: Coordinates, theta: torch.Tensor, views: Views, backend: str) -> FusedLinearization:
    return FusedLinearization(coordinates, theta, views, CHARTED[backend])


def _close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11 * expected.abs().max().item())


CASES = [
    *(("covariances", degree, EVERYTHING) for degree in range(5)),
    ("scales", 1, EVERYTHING),
    *((form, 1, groups) for form in ("covariances", "scales") for groups in (SOME, ("opacity",), ("means", "sh_dc"))),
]


@pytest.mark.parametrize(("form", "degree", "groups"), CASES, ids=lambda x: "-".join(x) if isinstance(x, tuple) else x)
@pytest.mark.parametrize("formation", [{}, {"antialiased": True, "dilation": 0.1}], ids=["classic", "antialiased"])
def test_every_product_is_that_of_the_composed_linearization(compiled_backend, form, degree, groups, formation):
    g, views = _scene(form, degree)
    views = views.replace(**formation)
    coordinates = Coordinates(g, views, groups)
    theta = torch.where(coordinates.encode(g) == 0, 0.2, 0.0) * torch.randn(2, coordinates.num_unknowns).double()
    theta = theta.nan_to_num()
    expected = ComposedLinearization(coordinates, theta, views, compiled_backend)
    found = _fused(coordinates, theta, views, compiled_backend)
    v, diagonal = torch.randn_like(theta), torch.rand_like(theta)
    pixels, u = torch.rand_like(found.image[:, :, 0]), torch.randn_like(found.image)
    _close(found.image, expected.image)
    _close(found.jvp(v), expected.jvp(v))
    _close(found.vjp(u), expected.vjp(u).nan_to_num())
    product = expected.gauss_newton_product(v, pixels, diagonal).nan_to_num()
    _close(found.gauss_newton_product(v, pixels, diagonal), product)
    _close(found.gram_diagonal(pixels), expected.gram_diagonal(pixels).nan_to_num())
    weights, center = torch.rand_like(theta), torch.randn_like(theta)
    _close(found.gradient(u, weights, center), expected.gradient(u, weights, center).nan_to_num())
    _close(found.weighted_distance(weights, center), expected.weighted_distance(weights, center))
    buffer = torch.empty_like(theta)
    assert found.gauss_newton_product(v, pixels, diagonal, buffer) is buffer
    _close(buffer, product)


@pytest.mark.parametrize("form", ["covariances", "scales"])
def test_opacities_move_as_far_as_the_coordinates_let_them(compiled_backend, form):
    g, views = _scene(form, 0)
    coordinates = Coordinates(g, views, ("opacity",))
    for far in (-2 * LARGEST_LOGIT, 2 * LARGEST_LOGIT):
        theta = torch.full((2, coordinates.num_unknowns), far, dtype=torch.float64)
        expected = ComposedLinearization(coordinates, theta, views, compiled_backend)
        _close(_fused(coordinates, theta, views, compiled_backend).image, expected.image)


def test_zero_is_the_reference_to_the_last_digit(compiled_backend):
    g, views = _scene("covariances", 1, torch.float32)
    coordinates = Coordinates(g, views, EVERYTHING)
    zero = torch.zeros(2, coordinates.num_unknowns)
    assert torch.equal(_fused(coordinates, zero, views, compiled_backend).image, render(g, views, compiled_backend))


def test_what_autograd_has_to_follow_is_composed(compiled_backend):
    g, views = _scene("covariances", 0, torch.float32)
    coordinates = Coordinates(g, views, SOME)
    theta = torch.zeros(2, coordinates.num_unknowns)
    assert isinstance(linearize_theta(coordinates, theta, views, compiled_backend), FusedLinearization)
    followed = linearize_theta(coordinates, theta.requires_grad_(), views, compiled_backend)
    assert isinstance(followed, ComposedLinearization)
    assert isinstance(linearize_theta(coordinates, theta.detach(), views, "torch"), ComposedLinearization)


def test_a_vector_of_the_wrong_length_is_named(compiled_backend):
    g, views = _scene("covariances", 0)
    coordinates = Coordinates(g, views, SOME)
    here = _fused(coordinates, torch.zeros(2, coordinates.num_unknowns).double(), views, compiled_backend)
    with pytest.raises(ValueError, match=r"tangent must have shape \[2, 222\], got \[2, 221\]"):
        here.jvp(torch.zeros(2, 221).double())


def _diagonals(backend, form, scales) -> list[torch.Tensor]:
    """In float64 and in float32, of Gaussians of these scales in front of two cameras."""
    torch.manual_seed(0)
    scales = torch.tensor(scales).double()
    count = len(scales)
    means = torch.tensor([1.0, 0.8, 2.0]) * torch.rand(count, 3) + torch.tensor([-0.5, -0.4, 2.5])
    colors, quats = 0.3 * torch.randn(count, 3, 4), torch.randn(count, 4)
    opacities = torch.full((count,), 0.3)
    g = Gaussians.from_scales(*(t.double()[None] for t in (means, scales, quats, opacities, colors)))
    g = g if form == "scales" else g.with_covariances()
    _, views = _scene("scales", 0)
    found = []
    for dtype in (torch.float64, torch.float32):
        seen = Views(views.world_to_camera[:1], views.intrinsics[:1], image_size=views.image_size).to(dtype)
        scene = g.to(dtype)
        coordinates = Coordinates(scene, seen, EVERYTHING)
        here = _fused(coordinates, coordinates.encode(scene), seen, backend)
        found.append(here.gram_diagonal(torch.ones_like(here.image[:, :, 0])))
    return found


@pytest.mark.parametrize("form", ["covariances", "scales"])
def test_the_diagonal_of_enormous_gaussians_is_finite_in_float32(compiled_backend, form):
    """A step that went too far leaves covariances whose squares no float holds; damping has to lead back from there."""
    scales = [[1e9, 1e9, 1e9], [1e10, 1e-2, 1e-2], [3e11, 1.0, 1e-3], [0.3, 0.2, 0.1]]
    assert all(found.isfinite().all() for found in _diagonals(compiled_backend, form, scales))


@pytest.mark.parametrize("form", ["covariances", "scales"])
def test_the_diagonal_of_needles_is_that_in_double_precision(compiled_backend, form):
    """A hundred times as long as they are wide: what a fourth power of that leaves of a float is nothing."""
    needles = [[length, 1e-3, 1e-3] for length in (2.0, 4.0, 8.0)]
    exact, found = _diagonals(compiled_backend, form, needles)
    assert (found >= 0).all()
    torch.testing.assert_close(found.double(), exact, rtol=2e-2, atol=1e-4)


HARD = ["plain", "needles", "sheets", "huge", "grazing"]


def _hard(kind: str, form: str, count: int = 200) -> tuple[Gaussians, Views]:
    """Gaussians of one kind of shape in front of two cameras, at random."""
    torch.manual_seed(3)
    means = torch.tensor([2.4, 1.8, 3.0]) * torch.rand(count, 3) + torch.tensor([-1.2, -0.9, 1.0])
    long, thin = 10 ** (3 * torch.rand(2, count) - 1), 10 ** (-2 - 2 * torch.rand(2, count))
    scales = {
        "needles": torch.stack([long[0], thin[0], thin[1]], -1),
        "sheets": torch.stack([long[0], long[1], thin[0]], -1),
        "huge": 10 ** (1 + 5 * torch.rand(count, 3)),
    }.get(kind, 0.02 + 0.2 * torch.rand(count, 3))
    if kind == "grazing":  # as near as anything is drawn, and far to the side
        means = torch.cat([0.3 * means[:, :2], 0.02 + 0.1 * torch.rand(count, 1)], -1)
    numbers = means, scales, torch.randn(count, 4), 0.02 + 0.5 * torch.rand(count), 0.3 * torch.randn(count, 3, 4)
    g = Gaussians.from_scales(*(t.double()[None] for t in numbers))
    K = torch.tensor([[120.0, 0, 80], [0, 120, 60], [0, 0, 1]]).double().expand(1, 2, 3, 3)
    _, views = _scene("scales", 0)
    return g if form == "scales" else g.with_covariances(), Views(views.world_to_camera[:1], K, image_size=(120, 160))


@pytest.mark.parametrize("form", ["covariances", "scales"])
@pytest.mark.parametrize("kind", HARD)
def test_the_diagonal_is_a_sum_of_squares_in_float32_too(compiled_backend, kind, form):
    """Damping adds a multiple of it: one negative entry, and no damping makes a step that lowers the energy."""
    g, views = _hard(kind, form)
    exact, found = [], []
    for dtype, into in ((torch.float64, exact), (torch.float32, found)):
        scene, seen = g.to(dtype), views.to(dtype)
        coordinates = Coordinates(scene, seen, EVERYTHING)
        here = _fused(coordinates, coordinates.encode(scene), seen, compiled_backend)
        into.append(here.gram_diagonal(torch.ones_like(here.image[:, :, 0])).double())
    assert (found[0] >= 0).all()
    off = (found[0] - exact[0]).abs() / (exact[0] + 1e-3)
    # A needle 10⁴ pixels long and one wide is another splat in float32, whatever is added up of it.
    assert off.quantile(0.95 if kind == "needles" else 1) < 0.5
