"""The customary TTO: published rates, the same over all renderers, and what it is to be compared with."""

import pytest
import torch
from scenes import random_scene, refinable_scene

from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.optimize.customary import CUSTOMARY_RATES, CustomaryTTO, cameras_extent
from diff3r_plugin.render import render


def last(settings, scene, views):
    return list(settings.run(scene, views))[-1]


def test_it_fits_the_context_views(backend):
    scene, views = refinable_scene(gaussians=12, size=(16, 16))
    start, middle, end = CustomaryTTO(steps=(0, 20, 60), backend=backend).run(scene, views)
    fitted = [float(psnr(views.given_images, render(s.gaussians, views)).mean()) for s in (start, middle, end)]
    assert fitted[0] < fitted[1] < fitted[2] and fitted[2] > fitted[0] + 1
    assert (start.steps, middle.steps, end.steps) == (0, 20, 60) and 0 <= start.seconds <= middle.seconds <= end.seconds
    assert not end.gaussians.means.requires_grad
    torch.testing.assert_close(render(start.gaussians, views), render(scene, views), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", sorted(CUSTOMARY_RATES))
def test_the_first_step_has_the_length_of_the_published_rate(name):
    """Adam's first step is its rate in every number that has a gradient."""
    scene, views = refinable_scene(gaussians=8, size=(16, 16))
    start, end = CustomaryTTO(steps=(0, 1)).run(scene, views)

    def parameter(g):
        return {
            "means": g.means,
            "scales": g.scales.log(),
            "quats": g.quats,
            "opacities": g.opacities.logit(),
            "sh_dc": g.harmonics[..., :1],
            "sh_rest": g.harmonics[..., 1:],
        }[name]

    moved = (parameter(end.gaussians) - parameter(start.gaussians)).abs().max()
    factor = cameras_extent(views) if name == "means" else 1.0
    assert float(moved) == pytest.approx(CUSTOMARY_RATES[name] * factor, rel=1e-3)


def test_the_loss_is_the_published_one():
    scene, views = refinable_scene(gaussians=6, size=(16, 16))
    state = last(CustomaryTTO(steps=(1,)), scene, views)
    truth, rendered = views.given_images, render(scene, views)
    expected = 0.8 * (truth - rendered).abs().mean() + 0.2 * (1 - ssim(truth, rendered).mean())
    torch.testing.assert_close(state.loss[0], expected, atol=1e-5, rtol=1e-4)
    squared = last(CustomaryTTO(steps=(1,), loss="mse"), scene, views)
    torch.testing.assert_close(squared.loss[0], (truth - rendered).square().mean(), atol=1e-6, rtol=1e-4)


def test_scenes_of_a_batch_do_not_see_each_other():
    scene, views = refinable_scene(batch=2, gaussians=6, size=(16, 16))
    extent = 1.0
    both = last(CustomaryTTO(steps=(10,), extent=extent), scene, views).gaussians
    for k in range(2):
        part = scene.map(lambda t, k=k: t[k : k + 1])
        alone = last(
            CustomaryTTO(steps=(10,), extent=extent),
            part,
            views.replace(
                world_to_camera=views.world_to_camera[k : k + 1],
                intrinsics=views.intrinsics[k : k + 1],
                images=views.given_images[k : k + 1],
                near=views.near[k : k + 1],
                far=views.far[k : k + 1],
            ),
        ).gaussians
        torch.testing.assert_close(both.means[k : k + 1], alone.means, atol=1e-6, rtol=1e-5)


def test_images_too_small_for_ssim_take_the_absolute_error():
    scene, views = random_scene(gaussians=4, size=(8, 8))
    state = last(CustomaryTTO(steps=(2,)), scene, views)
    assert bool(state.loss.isfinite().all()) and bool(state.gaussians.means.isfinite().all())


def test_it_works_where_gradients_are_off():
    scene, views = refinable_scene(gaussians=4, size=(16, 16))
    with torch.no_grad():
        end = last(CustomaryTTO(steps=(3,)), scene, views)
    assert float((end.gaussians.means - scene.means).abs().max()) > 0


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"steps": ()}, "at least one"),
        ({"steps": (5, 3)}, "ascending"),
        ({"steps": (-1,)}, "steps"),
        ({"loss": "l3"}, "loss"),
        ({"backend": "cuda"}, "backend"),
        ({"learning_rates": {"mean": 1.0}}, "learning_rates"),
        ({"learning_rates": {"means": 0.0}}, "learning_rates.means"),
        ({"extent": -1.0}, "extent"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        CustomaryTTO(**wrong)
