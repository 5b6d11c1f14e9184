"""The energy, its gradient and its Gauss-Newton matrix, in θ."""

import pytest
import torch
from scenes import random_scene, refinable_scene

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.objective import Objective
from diff3r_plugin.render import render

GROUPS = ("means", "covariance", "opacity", "sh_dc", "sh_rest")


def make(backend, groups=GROUPS, **options):
    scene, views = refinable_scene(**options)
    coordinates = Coordinates(scene, views, groups)
    B, P = scene.batch_size, coordinates.num_unknowns
    weights = 0.1 + torch.rand(B, P, dtype=torch.float64)
    pixels = torch.rand_like(views.images[:, :, 0])
    objective = Objective(coordinates, views, torch.zeros(B, P).double(), weights, pixels, backend)
    return objective, 0.1 * torch.randn(B, P, dtype=torch.float64)


@pytest.mark.parametrize("groups", [GROUPS, (*GROUPS, "poses"), ("means",)])
def test_gradient_is_the_limit_of_central_differences(backend, groups):
    objective, theta = make(backend, groups, batch=2)
    direction, step = torch.randn_like(theta), 1e-6
    numeric = (objective.energy(theta + step * direction) - objective.energy(theta - step * direction)) / (2 * step)
    here = objective.linearize(theta)
    torch.testing.assert_close((here.gradient * direction).sum(-1), numeric, rtol=1e-5, atol=1e-7)
    scene, cameras = objective.coordinates.decode(theta), objective.coordinates.decode_cameras(theta, objective.views)
    squared = (render(scene, cameras, backend) - objective.images) ** 2
    data = (objective.pixel_weights[:, :, None] * squared).sum((1, 2, 3, 4))
    proximal = (objective.proximal_weights * (theta - objective.theta0) ** 2).sum(-1)
    torch.testing.assert_close(here.energy, 0.5 * (data + proximal))


@pytest.mark.parametrize("groups", [GROUPS, (*GROUPS, "poses")])
def test_gauss_newton_product_is_the_matrix_of_the_linearized_residuals(backend, groups):
    objective, theta = make(backend, groups)
    here = objective.linearize(theta)
    v, u = torch.randn_like(theta), torch.randn_like(theta)
    w = objective.pixel_weights[:, :, None]
    expected = (w * here.jvp(v) * here.jvp(u)).sum() + (objective.proximal_weights * v * u).sum()
    torch.testing.assert_close((here.gauss_newton_product(v) * u).sum(), expected)


def test_diagonal_is_exact(backend):
    objective, theta = make(backend, gaussians=4)
    here = objective.linearize(theta)
    for i in range(0, theta.shape[1], 5):
        unit = torch.zeros_like(theta)
        unit[:, i] = 1
        torch.testing.assert_close(here.diagonal[:, i], here.gauss_newton_product(unit)[:, i], rtol=1e-9, atol=1e-10)


def test_block_preconditioner_saves_iterations(backend):
    from diff3r_plugin.linalg import pcg

    scene, views = random_scene(gaussians=40, size=(16, 16), degree=0, seed=3)
    coordinates = Coordinates(scene, views, ("means", "covariance", "opacity", "sh_dc"))
    zero = torch.zeros(1, coordinates.num_unknowns, dtype=torch.float64)
    here = Objective(coordinates, views, zero, torch.full_like(zero, 0.01), backend=backend).linearize(zero)
    counts = [
        int(
            pcg(
                here.gauss_newton_product,
                here.gradient,
                preconditioner=here.preconditioner(kind),
                max_iterations=500,
                tolerance=1e-2,
            ).iterations
        )
        for kind in ("block_jacobi", "jacobi", "none")
    ]
    # The dimensionless coordinates are well scaled already, so the diagonal alone changes little.
    assert counts[0] < 0.85 * min(counts[1:])


def test_a_damped_system_is_preconditioned_by_its_own_diagonal(backend):
    objective, theta = make(backend, gaussians=4)
    here = objective.linearize(theta)
    damped = objective.proximal_weights + 1 + torch.rand_like(theta)
    product, inverse = here.system("jacobi", damped)
    probe = torch.randn_like(theta)
    torch.testing.assert_close(product(probe), here.gauss_newton_product(probe, damped))
    torch.testing.assert_close(
        inverse(torch.ones_like(theta)) * (here.diagonal - objective.proximal_weights + damped), torch.ones_like(theta)
    )


def test_blocks_of_a_damped_system_invert_it_where_gaussians_do_not_overlap(backend):
    """One Gaussian alone is one block, and its unknowns without a block are divided by their diagonal."""
    scene, views = random_scene(gaussians=1, size=(12, 16), degree=0, seed=1)
    coordinates = Coordinates(scene, views, ("means", "covariance", "opacity", "sh_dc"))
    zero = torch.zeros(1, coordinates.num_unknowns, dtype=torch.float64)
    here = Objective(coordinates, views, zero, torch.full_like(zero, 0.1), backend=backend).linearize(zero)
    product, inverse = here.system("block_jacobi", torch.full_like(zero, 0.7))
    probe = torch.randn_like(zero)
    torch.testing.assert_close(product(inverse(probe)), probe, rtol=1e-8, atol=1e-9)


def test_views_without_photographs_are_refused():
    scene, views = random_scene()
    coordinates = Coordinates(scene, views, GROUPS)
    zero = torch.zeros(1, coordinates.num_unknowns).double()
    with pytest.raises(ValueError, match="no images"):
        Objective(coordinates, views.replace(images=None, image_size=(12, 16)), zero, zero + 1)


def test_the_energy_of_what_cannot_be_represented_is_infinite(backend):
    """A renderer leaves such a Gaussian out, and without it the energy may well be less: no step may go there."""
    objective, theta = make(backend, batch=2)
    theta[1, objective.coordinates.first_unknown("covariance")] = 400
    energy = objective.energy(theta)
    assert energy[0].isfinite() and energy[1] == torch.inf
