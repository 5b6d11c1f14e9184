"""Gaussians that no view holds stay within a bound; what it does not touch stays to the bit."""

import pytest
import torch
from scenes import refinable_scene

from diff3r_plugin import Gaussians, TTOConfig, TTOLayer
from diff3r_plugin.refine.growth import with_scales
from diff3r_plugin.size_bound import bounded_sizes


def sizes(scene: Gaussians) -> torch.Tensor:
    """Standard deviations along the longest axis."""
    return torch.linalg.eigvalsh(scene.covariance_matrices)[..., -1].sqrt()


def distances(scene: Gaussians, views) -> torch.Tensor:
    return torch.cdist(scene.means, torch.linalg.inv(views.world_to_camera)[..., :3, 3]).amin(-1)


@pytest.fixture
def made():
    return refinable_scene(gaussians=30, views=3, size=(24, 32), batch=2, dtype=torch.float64)


def by_scales(scene: Gaussians) -> Gaussians:
    parts = [with_scales(scene.map(lambda t, b=b: t[b : b + 1])).tensors() for b in range(scene.batch_size)]
    means, opacities, harmonics, scales, quats = (torch.cat(own) for own in zip(*parts, strict=True))
    return Gaussians.from_scales(means, scales, quats, opacities, harmonics)


def forms(scene: Gaussians) -> list[Gaussians]:
    return [scene, by_scales(scene)]


def test_what_outgrew_its_distance_is_cut_and_the_rest_stays(made):
    scene, views = made
    for given in forms(scene):
        factor = torch.ones(2, 30, dtype=torch.float64)
        factor[:, ::3] = 1e6
        if given.scales is None:
            grown = Gaussians(
                given.means, given.covariances * factor[..., None, None].square(), given.opacities, given.harmonics
            )
        else:
            scales = given.scales * factor[..., None]
            grown = Gaussians.from_scales(given.means, scales, given.quats, given.opacities, given.harmonics)
        cut = bounded_sizes(grown, given, views, 0.7)
        limit = torch.maximum(0.7 * distances(given, views), sizes(given))
        assert (sizes(grown) > limit)[:, ::3].all()
        assert (sizes(cut) <= limit * (1 + 1e-6)).all()
        kept = factor == 1
        assert torch.equal(cut.covariance_matrices[kept], grown.covariance_matrices[kept])


def test_what_came_larger_may_stay_as_large(made):
    scene, views = made
    for given in forms(scene):
        same = bounded_sizes(given, given, views, 1e-9)
        assert all(torch.equal(a, b) for a, b in zip(same.tensors(), given.tensors(), strict=True))


def test_a_bounded_size_passes_no_gradient_a_free_one_does(made):
    scene, views = made
    given = by_scales(scene)
    growth = torch.zeros(2, 30, dtype=torch.float64)
    growth[:, 0] = 20.0
    growth.requires_grad_()
    for form in (given, scene):
        if form.scales is not None:
            scales = form.scales * growth.exp()[..., None]
            grown = Gaussians.from_scales(form.means, scales, form.quats, form.opacities, form.harmonics)
        else:
            covariances = form.covariances * (2 * growth).exp()[..., None, None]
            grown = Gaussians(form.means, covariances, form.opacities, form.harmonics)
        traces = bounded_sizes(grown, form, views, 1.0).covariance_matrices.diagonal(dim1=-2, dim2=-1).sum(-1)
        (gradient,) = torch.autograd.grad(traces.sum(), growth)
        assert gradient[:, 0].abs().max() < 1e-6 * traces.max() and (gradient[:, 1:] > 0).all()


def test_the_layer_bounds_what_it_returns(made):
    scene, views = made
    for given in forms(scene):
        start = given.map(lambda t: t)
        free, _ = TTOLayer(TTOConfig(inner_steps=4))(start, views, 1e-3)
        limit = torch.maximum(0.02 * distances(free, views), sizes(start))
        if start.scales is None:  # of covariances, the root of the trace is bounded
            limit = torch.maximum(limit, start.covariance_matrices.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt())
        assert (sizes(free) > limit * 1.01).any(), "else there is nothing to bound"
        bounded, _ = TTOLayer(TTOConfig(inner_steps=4, largest_size=0.02))(start, views, 1e-3)
        assert (sizes(bounded) <= limit * (1 + 1e-6)).all()
        assert torch.equal(bounded.means, free.means)
    with pytest.raises(ValueError, match="largest_size"):
        TTOConfig(largest_size=0.0)
