"""The refinement in rounds as a function of tensors."""

from dataclasses import replace

import pytest
import refine_files
import torch

from diff3r_plugin import Gaussians, Outcome, ProximalWeights, TTOConfig, Views
from diff3r_plugin.metrics import psnr
from diff3r_plugin.refine import RefineError, RoundSettings, refine_scene
from diff3r_plugin.refine.round import run_round
from diff3r_plugin.refine.rounds import (
    GAIN,
    MOST_ROUNDS,
    PATIENCE,
    SETTLING_TURNS,
    VALIDATE_EVERY,
    Schedule,
    first_damping,
    has_gained_enough,
    is_finished,
    make_schedule,
)
from diff3r_plugin.render import render


@pytest.fixture
def made() -> tuple[Gaussians, Views]:
    return refine_files.made()


def test_rounds_refine_a_scene_in_memory(made):
    scene, views = made
    told = []
    result = refine_scene(scene, views, RoundSettings(views_per_round=2, rounds=6), after_round=told.append)
    shown = [render(g, views.replace(images=None, image_size=views.image_size)) for g in (scene, result.scene)]
    before, after = (psnr(views.images, image).mean() for image in shown)
    assert after > before + 3
    assert told == result.rounds and len(told) == 6 and result.best_round is None


def test_pixels_of_no_weight_are_not_fitted(made):
    """A view that shows something else by half: what is masked out does not pull the scene."""
    scene, views = made
    corrupted = views.images.clone()
    corrupted[:, :, :, :, :16] = 1.0
    weights = torch.ones_like(corrupted[:, :, 0])
    weights[..., :16] = 0
    changed = views.replace(images=corrupted)
    settings = RoundSettings(views_per_round=2, rounds=6)
    cameras = views.replace(images=None, image_size=views.image_size)
    found = {}
    for name, w in (("masked", weights), ("not", None)):
        refined = refine_scene(scene, changed, settings, pixel_weights=w).scene
        found[name] = float(psnr(views.images[..., 16:], render(refined, cameras)[..., 16:]).mean())
    assert found["masked"] > found["not"] + 1


def test_robust_rounds_fit_less_of_what_does_not_belong(made):
    scene, views = made
    good = refine_scene(scene, views, RoundSettings(views_per_round=3, rounds=8)).scene
    corrupted = views.images.clone()
    corrupted[:, 0, :, 4:12, 8:20] = 1.0  # something in front of the lens
    cameras = views.replace(images=None, image_size=views.image_size)
    scores = []
    for robust in (None, 0.1):
        settings = RoundSettings(views_per_round=3, rounds=6, robust=robust)
        refined = refine_scene(good, views.replace(images=corrupted), settings).scene
        scores.append(float(psnr(views.images, render(refined, cameras)).mean()))
    assert scores[1] > scores[0] + 1


def test_it_grows_where_it_is_told_to(made):
    scene, views = made
    result = refine_scene(scene, views, RoundSettings(views_per_round=3, rounds=24, max_gaussians=120))
    counts = [entry["gaussians"] for entry in result.rounds]
    assert counts == [60] * 20 + [61, 61, 63, 63] and result.scene.num_gaussians == 63
    assert result.scene.scales is not None


def test_the_best_round_by_the_validation_views_is_returned(made):
    scene, views = made
    settings = RoundSettings(views_per_round=2, rounds=12, validation=2)
    result = refine_scene(scene, views, settings)
    seen = {name for entry in result.rounds for name in entry["views"]}
    assert seen == {"0", "2", "3", "5"}, "the second and the fifth are for validation"
    scores = {entry["round"]: entry["validation_psnr"] for entry in result.rounds}
    assert [number for number, score in scores.items() if score is not None] == [4, 8, 12]
    assert scores[result.best_round] == max(score for score in scores.values() if score is not None)
    held = views.replace(
        world_to_camera=views.world_to_camera[:, [1, 4]],
        intrinsics=views.intrinsics[:, [1, 4]],
        images=views.images[:, [1, 4]],
        near=views.near[:, [1, 4]],
        far=views.far[:, [1, 4]],
    )
    shown = render(result.scene, held.replace(images=None, image_size=held.image_size))
    assert float(psnr(held.images, shown).mean()) == pytest.approx(scores[result.best_round], abs=1e-4)


def test_it_ends_where_validation_gains_no_more():
    schedule = Schedule(True, [0], [1], MOST_ROUNDS, settling=2, start=1, gaussians=1)

    def rounds(scores):
        return [
            {
                "round": n + 1,
                "validation_psnr": scores(n + 1) if (n + 1) % VALIDATE_EVERY == 0 else None,
                "settling": False,
            }
            for n in range(PATIENCE + 8)
        ]

    flat = rounds(lambda n: 20.0)
    assert not has_gained_enough(rounds(lambda n: 20 + n * GAIN), schedule), "it still gains"
    assert has_gained_enough(flat, schedule) and not is_finished(flat, schedule), "it has yet to settle"
    assert not has_gained_enough(flat[:PATIENCE], schedule), "too early to tell"
    assert not has_gained_enough(flat, replace(schedule, settling=0)), "as many as were asked for"
    settled = [*flat, *({"round": 0, "validation_psnr": None, "settling": True} for _ in range(2))]
    assert is_finished(settled, schedule) and not is_finished(settled[:-1], schedule)


def test_it_settles_on_all_views_from_the_best_scene(made):
    scene, views = made
    result = refine_scene(scene, views, RoundSettings(views_per_round=2, validation=2))
    settling = [entry for entry in result.rounds if entry["settling"]]
    assert result.rounds[-len(settling) :] == settling and len(settling) == 3 * SETTLING_TURNS
    assert {name for entry in settling for name in entry["views"]} == set("012345")
    assert all(entry["validation_psnr"] is None for entry in settling)
    cameras = views.replace(images=None, image_size=views.image_size)
    before, after = (psnr(views.images, render(g, cameras)).mean() for g in (scene, result.scene))
    assert after > before + 5


def test_damping_begins_anew_where_rounds_keep_failing():
    failed = [{"accepted_steps": 0}] * 9
    dampings = [first_damping(1.0, failed[:n]) for n in range(10)]
    assert dampings == [1, 8, 64, 512, 4096, 32768, 1, 8, 64, 512]
    assert first_damping(1e7, failed) == 1e7, "as it was given"


def test_what_is_too_bright_to_show_costs_nothing_where_the_image_is_white(made):
    """PSNR is of renderings cut at one: the energy of a round is, too."""
    scene, views = made
    bright = Gaussians(scene.means, scene.covariances, scene.opacities, scene.harmonics + 20)
    cameras = views.replace(images=None, image_size=views.image_size)
    shown = render(bright, cameras)
    assert shown.max() > 2
    white = views.replace(images=shown.clamp(max=1.0))
    result = run_round(bright, white, ProximalWeights.of(0.1), TTOConfig(inner_steps=2))
    assert result.energy_before == 0 and result.outcome is Outcome.NOTHING_TO_GAIN
    dark = views.replace(images=0.5 * shown.clamp(max=1.0))
    result = run_round(bright, dark, ProximalWeights.of(0.1), TTOConfig(inner_steps=4))
    assert result.energy_after < 0.99 * result.energy_before, "the gradient still leads back into the range"


def test_what_cannot_be_refined_says_so(made):
    scene, views = made
    two = scene.map(lambda t: t.repeat(2, *[1] * (t.ndim - 1)))
    with pytest.raises(ValueError, match=r"takes one scene, got 2"):
        refine_scene(two, views)
    with pytest.raises(RefineError, match="validation=6 leaves none of the 6 context views"):
        refine_scene(scene, views, RoundSettings(views_per_round=2, validation=6))
    scene.means[0, 0, 0] = float("nan")
    with pytest.raises(RefineError, match=r"Round 1 could do nothing \(invalid_gaussians\): a Gaussian is not finite"):
        refine_scene(scene, views, RoundSettings(views_per_round=2))


def test_a_given_scene_does_not_grow_by_itself(made):
    scene, _ = made
    assert make_schedule(RoundSettings(), scene, 40, (48, 64), from_points=False).gaussians == 60
    assert make_schedule(RoundSettings(), scene, 40, (48, 64), from_points=True).gaussians > 60
