"""What changes between rounds: sizes are bounded, Gaussians go and divide."""

import pytest
import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.refine.growth import FAINTEST, LARGEST, SMALLEST, bounded, divided, grown, pruned, with_scales
from diff3r_plugin.render import render


def scene(count: int = 6) -> Gaussians:
    """Gaussians in front of the camera, of different shapes and colors."""
    means = torch.tensor([1.0, 0.8, 1.0]) * torch.rand(1, count, 3) + torch.tensor([-0.5, -0.4, 2.0])
    scales, quats = 0.02 + 0.1 * torch.rand(1, count, 3), torch.randn(1, count, 4)
    return Gaussians.from_scales(means, scales, quats, 0.1 + 0.2 * torch.rand(1, count), torch.randn(1, count, 3, 4))


def views() -> Views:
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])[None, None]
    return Views(torch.eye(4)[None, None], K, image_size=(48, 64))


def test_two_halves_show_nearly_what_the_whole_did():
    whole = scene(1)
    before = render(whole, views(), "torch")
    after = render(divided(whole, torch.tensor([0])), views(), "torch")
    assert before.max() > 0.05
    assert (after - before).abs().max() < 0.1 * before.max()
    assert (after.sum() / before.sum() - 1).abs() < 0.1


def test_two_halves_have_the_mean_and_the_second_moments_of_the_whole():
    whole = scene()
    result = divided(whole, torch.tensor([1, 4]))
    assert result.num_gaussians == 8
    for number, (first, second) in {1: (1, 6), 4: (4, 7)}.items():
        means = result.means[0, [first, second]]
        torch.testing.assert_close(means.mean(0), whole.means[0, number])
        offsets = means - whole.means[0, number]
        spread = (offsets[:, :, None] * offsets[:, None, :]).mean(0)
        within = result.covariance_matrices[0, [first, second]].mean(0)
        torch.testing.assert_close(within + spread, whole.covariance_matrices[0, number], rtol=1e-4, atol=1e-7)
    untouched = [0, 2, 3, 5]
    assert all(
        torch.equal(a[:, untouched], b[:, untouched]) for a, b in zip(whole.tensors(), result.tensors(), strict=True)
    )


def test_what_shows_nowhere_goes():
    given = scene()
    given.opacities[0, [0, 3]] = FAINTEST / 2
    left, stay = pruned(given)
    assert stay.tolist() == [1, 2, 4, 5] and torch.equal(left.means, given.means[:, stay])


def test_it_grows_to_the_target_where_images_are_missed():
    given, missed = scene(10), torch.zeros(10)
    missed[[2, 5, 7]] = torch.tensor([1.0, 2.0, 3.0])
    draw = torch.Generator().manual_seed(0)
    assert grown(given, missed, 12, draw).num_gaussians == 12
    everywhere = grown(given, missed, 20, draw)
    assert everywhere.num_gaussians == 13, "only where something is missed"
    assert sorted(everywhere.means[0, 10:].tolist()) == sorted(
        divided(given, torch.tensor([2, 5, 7])).means[0, 10:].tolist()
    )
    assert grown(given, missed, 10, draw) is not None and grown(given, torch.zeros(10), 20, draw).num_gaussians == 10


def test_a_seed_decides_which_divide():
    given, missed = scene(40), torch.rand(40)
    results = [grown(given, missed, 50, torch.Generator().manual_seed(seed)).means for seed in (0, 0, 1)]
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_sizes_stay_between_what_a_camera_resolves_and_its_distance(size):
    before = scene()
    after = Gaussians.from_scales(
        before.means, torch.full_like(before.scales, size), before.quats, before.opacities, before.harmonics
    )
    found = bounded(after, before, torch.zeros(1, 3), 60.0).scales
    distance = before.means.norm(dim=-1, keepdim=True)
    expected = LARGEST * distance if size > 1 else SMALLEST / 60 * distance
    torch.testing.assert_close(found, expected.expand_as(found))


def test_what_was_enormous_when_it_was_given_may_stay_so():
    given = scene()
    given.scales[0, 2] = 50.0
    grew = Gaussians.from_scales(given.means, 2 * given.scales, given.quats, given.opacities, given.harmonics)
    found = bounded(grew, given, torch.zeros(1, 3), 60.0).scales
    torch.testing.assert_close(found[0, 2], given.scales[0, 2])
    torch.testing.assert_close(found[0, 0], 2 * given.scales[0, 0])


def test_covariances_become_scales_of_the_same_shape():
    given = scene()
    again = with_scales(given.with_covariances())
    torch.testing.assert_close(again.covariance_matrices, given.covariance_matrices, rtol=1e-4, atol=1e-6)
    assert with_scales(given) is given
