"""What a program may hand over by mistake, and the message it gets: the value, what was expected, and the cure."""

# ruff: noqa: E501 -- a row of the table is a line

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scenes import random_scene, refinable_scene

from diff3r_plugin import FallbackWarning, Gaussians, Outcome, ProximalWeights, TTOConfig, TTOLayer, Views
from diff3r_plugin.render import linearize, render
from diff3r_plugin.validation import check_inputs

SCENE, VIEWS = random_scene(dtype=torch.float32)


def refine(scene: object = SCENE, views: object = VIEWS, weights: object = 1.0, pixel_weights: object = None) -> None:
    TTOLayer(TTOConfig(inner_steps=1, backend="torch"))(scene, views, weights, pixel_weights)


def scene(**changes: object) -> Gaussians:
    values = {n: getattr(SCENE, n) for n in ("means", "covariances", "opacities", "harmonics")}
    return Gaussians(**{**values, **changes})


def by_scales(**changes: object) -> Gaussians:
    quats = torch.tensor([1.0, 0, 0, 0]).expand(1, 12, 4)
    values = {"means": SCENE.means, "scales": torch.full((1, 12, 3), 0.1), "quats": quats}
    values |= {"opacities": SCENE.opacities, "harmonics": SCENE.harmonics}
    return Gaussians.from_scales(**{**values, **changes})


def views(**changes: object) -> Views:
    return VIEWS.replace(**changes)


def cameras(change: Callable[[torch.Tensor], object], name: str = "world_to_camera") -> Views:
    value = getattr(VIEWS, name).clone()
    changed = change(value)
    return VIEWS.replace(**{name: value if changed is None else changed})


def pixels(value: float) -> torch.Tensor:
    weights = torch.ones(1, 2, 12, 16)
    weights[0, 1, 3, 4] = value
    return weights


def set_to(value: object, *index: object) -> Callable[[torch.Tensor], None]:
    def change(tensor: torch.Tensor) -> None:
        tensor[index] = torch.as_tensor(value)

    return change


def scaled(*factors: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """The rows of a matrix, each times its factor."""
    return lambda tensor: tensor * torch.tensor(factors)[:, None]


OPENGL = scaled(1, -1, -1, 1)
NORMALIZE = scaled(1 / 16, 1 / 12, 1)

TABLE = {
    # values in another convention
    "logit opacities": (lambda: refine(scene(opacities=SCENE.opacities.logit())), r"opacities .*\[0, 1\], got \[-.*sigmoid"),
    "opacities of 255": (lambda: refine(scene(opacities=SCENE.opacities * 255)), r"got \[.*2\d\d\].*opacities / 255"),
    "log scales": (lambda: refine(by_scales(scales=torch.full((1, 12, 3), -2.3))), r"got \[-2.3, -2.3\].*scales\.exp\(\)"),
    "a Cholesky factor": (lambda: refine(scene(covariances=torch.eye(3).expand(1, 12, 3, 3) + torch.eye(3).roll(1, 0).tril())), "symmetric.*factor @ factor.mT"),
    "normalized intrinsics": (lambda: refine(views=cameras(NORMALIZE, "intrinsics")), r"in pixels, got focal lengths 1, 1.1.*multiply the first row by 16 and the second by 12"),
    "transposed intrinsics": (lambda: refine(views=cameras(lambda K: K.mT, "intrinsics")), r"\[\[fx, 0, cx\].*intrinsics\.mT"),
    "inverted intrinsics": (lambda: refine(views=cameras(torch.linalg.inv, "intrinsics")), r"in pixels, got focal lengths 0.06.*inverted: give torch\.linalg\.inv"),
    "negative focal length": (lambda: refine(views=cameras(scaled(1, -1, 1), "intrinsics")), r"Focal lengths must be positive, got 16, -13.*axes"),
    "zero focal length": (lambda: refine(views=cameras(set_to(0.0, ..., 0, 0), "intrinsics")), "Focal lengths must be positive, got 0, 13"),
    "scaled rotation": (lambda: refine(views=cameras(scaled(2, 2, 2, 1))), "must hold rotations: in scene 0, view 0 RᵀR differs.*by 3 "),
    "zero pose": (lambda: refine(views=cameras(torch.zeros_like)), r"last row of world_to_camera must be \(0, 0, 0, 1\), got \(0, 0, 0, 0\)"),
    "zero rotation": (lambda: refine(views=cameras(set_to(0.0, ..., slice(3), slice(3)))), "RᵀR differs.*zero matrix"),
    "mirrored pose": (lambda: refine(views=cameras(scaled(1, -1, 1, 1))), "mirrors.*determinant -1.*negates y and z"),
    "transposed pose": (lambda: refine(views=cameras(lambda w: w.mT)), r"last row.*transposed: give world_to_camera\.mT"),
    "last row of the pose": (lambda: refine(views=cameras(set_to((0.0, 0, 0, 2), 0, 1, 3))), r"got \(0, 0, 0, 2\) in scene 0, view 1"),
    "OpenGL axes": (lambda: refine(views=cameras(OPENGL)), r"No Gaussian is in front.*from -\d.*OpenGL.*negated"),
    "another world unit": (lambda: refine(views=views(near=300.0, far=1000.0)), "No Gaussian is in front.*near=300 and far=1000"),
    "near beyond far": (lambda: refine(views=views(near=5.0, far=0.5)), "0 <= near < far, got near=5, far=0.5.*swapped"),
    "near equals far": (lambda: refine(views=views(near=1.0, far=1.0)), "got near=1, far=1"),
    "negative near": (lambda: refine(views=views(near=-1.0)), "got near=-1"),
    "near is NaN": (lambda: refine(views=views(near=float("nan"))), "got near=nan"),
    "images of 255": (lambda: refine(views=views(images=VIEWS.images * 255)), r"Images must lie in \[0, 1\], got \[.*image / 255"),
    "images in [-1, 1]": (lambda: refine(views=views(images=VIEWS.images * 2 - 1)), r"image \* 0.5 \+ 0.5"),
    "images of 255 beside a NaN": (lambda: refine(views=views(images=(VIEWS.images * 255).index_fill(-1, torch.tensor(0), float("nan")))), "image / 255"),
    "background of 255": (lambda: refine(views=views(background=(255.0, 255.0, 255.0))), r"background.*\[0, 1\].*255, 255, 255\).*Divide by 255"),
    "background of -1": (lambda: refine(views=views(background=(-1.0, 0.0, 0.0))), "background.*-1, 0, 0.*normalization"),
    "background is NaN": (lambda: refine(views=views(background=(float("nan"), 0.0, 0.0))), "background.*nan"),
    # weights
    "negative pixel weight": (lambda: refine(pixel_weights=pixels(-1.0)), "must not be negative, infinite or NaN, got -1 .1 of 384"),
    "pixel weight is NaN": (lambda: refine(pixel_weights=pixels(float("nan"))), "got nan"),
    "pixel weight is infinite": (lambda: refine(pixel_weights=pixels(float("inf"))), "got inf"),
    "pixel weights of one view": (lambda: refine(pixel_weights=torch.ones(1, 1, 12, 16)), r"shape \[1, 2, 12, 16\], got \[1, 1, 12, 16\]"),
    "pixel weights are a NumPy array": (lambda: refine(pixel_weights=np.ones((1, 2, 12, 16))), "pixel_weights must be a torch.Tensor.*numpy.ndarray"),
    "weight is zero": (lambda: refine(weights=0.0), "positive and finite; means holds 0.*exp or softplus"),
    "weight is infinite": (lambda: refine(weights=float("inf")), "positive and finite; means holds inf"),
    "weights is None": (lambda: refine(weights=None), "weights must be a number.*got NoneType"),
    "weights is a list": (lambda: refine(weights=[0.1, 0.2]), "weights must be a number.*got list"),
    "weights is a word": (lambda: refine(weights="0.1"), "weights must be a number.*got str"),
    "weight of a group is a word": (lambda: refine(weights={"means": "0.1"}), "weight of means must be a number or a tensor, got str"),
    "weight of a group is a bool": (lambda: ProximalWeights(means=True), "got bool"),
    "weights of an unknown group": (lambda: refine(weights={"scales": 1.0}), "Unknown group 'scales'.*known are means"),
    "weights lack a group": (lambda: refine(weights={"means": 1.0}), "'covariance' is optimized but has no proximal weight"),
    # kinds of arguments
    "arguments swapped": (lambda: refine(VIEWS, SCENE), "gaussians must be Gaussians.*got diff3r_plugin.views.Views.*order"),
    "views is a dict": (lambda: refine(views={"images": VIEWS.images}), "views must be Views.*got dict"),
    "a tuple of tensors": (lambda: refine((SCENE.means, SCENE.covariances)), "gaussians must be Gaussians.*got tuple"),
    "render without Views": (lambda: render(SCENE, VIEWS.world_to_camera), "views must be Views.*got torch.Tensor"),
    "linearize without Gaussians": (lambda: linearize(SCENE.means, VIEWS), "gaussians must be Gaussians.*got torch.Tensor"),
    "means are a NumPy array": (lambda: scene(means=np.zeros((1, 12, 3))), r"means must be a torch.Tensor, got numpy.ndarray.*torch.from_numpy"),
    "opacities are a list": (lambda: scene(opacities=[[0.5] * 12]), r"opacities must be a torch.Tensor, got list.*torch.tensor"),
    "harmonics are None": (lambda: scene(harmonics=None), "harmonics must be a torch.Tensor, got NoneType"),
    "whole numbers": (lambda: scene(means=torch.zeros(1, 12, 3, dtype=torch.int64)), r"means must hold floating-point.*int64.*means\.float\(\)"),
    "poses are a NumPy array": (lambda: views(world_to_camera=np.eye(4)[None, None]), "world_to_camera must be a torch.Tensor, got numpy.ndarray"),
    "intrinsics are a list": (lambda: views(intrinsics=[[1.0]]), "intrinsics must be a torch.Tensor, got list"),
    "images of bytes": (lambda: views(images=torch.zeros(1, 2, 3, 12, 16, dtype=torch.uint8)), r"torch.uint8.*images\.float\(\) / 255"),
    "near is a word": (lambda: views(near="close"), "near must be a number or a tensor.*got str"),
    "background is a word": (lambda: views(background="white"), "background must be three numbers.*'white'"),
    "image size is one number": (lambda: views(images=None, image_size=64), "image_size must be .H, W., two whole numbers; got 64"),
    "config is a dict": (lambda: TTOLayer({"inner_steps": 2}), "config must be TTOConfig.*got dict"),
    "solver by name": (lambda: TTOLayer(solver="adam"), r"solver must be an object.*got 'adam'.*inner_solver"),
    "backward by name": (lambda: TTOLayer(backward="unroll"), r"backward must be an object.*got 'unroll'.*backward_mode"),
    # shapes
    "one scene without a batch": (lambda: scene(means=SCENE.means[0]), r"means .*\[B, N, 3\], got \[12, 3\]. One scene alone.*\[None\]"),
    "opacities with a channel": (lambda: scene(opacities=SCENE.opacities[..., None]), r"\[1, 12\] to match means.*Drop the last dimension"),
    "harmonics in gsplat's order": (lambda: scene(harmonics=SCENE.harmonics.mT), r"harmonics must.*harmonics\.mT"),
    "colors for harmonics": (lambda: scene(harmonics=SCENE.means), "Plain colors are"),
    "covariances of another scene": (lambda: scene(covariances=SCENE.covariances[:, :5]), r"\[1, 12, 3, 3\].*got \[1, 5, 3, 3\]"),
    "scales without rotations": (lambda: by_scales(quats=None), "scales together with quats"),
    "cameras without a batch": (lambda: views(world_to_camera=VIEWS.world_to_camera[0]), r"got \[2, 4, 4\]. One scene alone"),
    "cameras of three rows": (lambda: views(world_to_camera=VIEWS.world_to_camera[..., :3, :]), r"Append the row \(0, 0, 0, 1\)"),
    "channels last": (lambda: views(images=VIEWS.images.permute(0, 1, 3, 4, 2)), r"permute\(0, 1, 4, 2, 3\)"),
    "an alpha channel": (lambda: views(images=torch.ones(1, 2, 4, 12, 16)), "Composite the alpha channel"),
    "more cameras than images": (lambda: views(images=VIEWS.images[:, :1]), r"\[1, 2, 3, H, W\], got \[1, 1, 3"),
    "more scenes than cameras": (lambda: refine(random_scene(batch=2)[0]), "2 scenes but Views 1; give each scene its views"),
    # nothing there
    "an empty batch": (lambda: refine(*_sliced(slice(0), slice(None), slice(None))), "nothing to refine: an empty batch"),
    "no Gaussians": (lambda: refine(*_sliced(slice(None), slice(0), slice(None))), "scenes without Gaussians"),
    "no views": (lambda: refine(*_sliced(slice(None), slice(None), slice(0))), "no views"),
    "images without pixels": (lambda: refine(views=Views(VIEWS.world_to_camera, VIEWS.intrinsics, VIEWS.images[..., :0, :])), r"images without pixels \(16 x 0\)"),
    "no images": (lambda: refine(views=views(images=None)), "images=None"),
    # devices
    "scene on another device": (lambda: refine(SCENE.to("meta")), "Gaussians are on meta but Views on cpu"),
    "one tensor on another device": (lambda: scene(opacities=SCENE.opacities.to("meta")), r"opacities is on meta but means on cpu; move one with \.to"),
    "images on another device": (lambda: views(images=VIEWS.images.to("meta")), "images is on meta but world_to_camera on cpu"),
    "a renderer for another device": (lambda: render(SCENE, VIEWS, "gsplat"), "'gsplat' is not available for tensors on cpu.*backend='auto'"),
    # settings
    "infinite damping": (lambda: TTOConfig(damping=float("inf")), "damping=inf must be positive and finite"),
    "damping is a word": (lambda: TTOConfig(damping="1"), "damping='1' must be positive and finite"),
    "tolerance is a word": (lambda: TTOConfig(pcg_tolerance="small"), r"pcg_tolerance='small' must lie in \[0, 1\)"),
    "half a step": (lambda: TTOConfig(inner_steps=1.5), "inner_steps=1.5 must be a whole number"),
    "steps as a word": (lambda: TTOConfig(inner_steps="4"), "inner_steps='4' must be a whole number"),
    "groups are one word": (lambda: TTOConfig(groups="means"), r"groups='means' must be several of means.*\('means', 'opacity'\)"),
    "no groups": (lambda: TTOConfig(groups=()), "groups is empty"),
    "an unknown renderer": (lambda: TTOConfig(backend="cuda"), "backend='cuda' is not one of auto"),
    "learning rates as a number": (lambda: TTOConfig(learning_rates=0.1), "learning_rates=0.1 must be several of"),
    "an infinite learning rate": (lambda: TTOConfig(learning_rates={"means": float("inf")}), r"learning_rates\['means'\]=inf"),
    "a negative limit": (lambda: TTOConfig(stationarity_warning=-1.0), "stationarity_warning=-1.0 must be positive"),
}  # fmt: skip


def _sliced(batch: slice, gaussians: slice, count: slice) -> tuple[Gaussians, Views]:
    cut = VIEWS.replace(
        **{n: getattr(VIEWS, n)[batch, count] for n in ("world_to_camera", "intrinsics", "images", "near", "far")}
    )
    return SCENE.map(lambda t: t[batch, gaussians]), cut


@pytest.mark.parametrize("mistake", TABLE)
def test_the_message_has_the_value_the_expectation_and_the_cure(mistake):
    call, message = TABLE[mistake]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


class TestWhatIsNoMistake:
    """Values that are odd, and right: a check that is too eager would end trainings."""

    def accepts(self, scene=SCENE, views=VIEWS, pixel_weights=None):
        check_inputs(scene, views, pixel_weights)

    def test_padding(self):
        padded = SCENE.map(lambda t: torch.cat([t, torch.zeros_like(t)], 1))
        self.accepts(padded)

    def test_opacities_of_zero_and_one(self):
        self.accepts(scene(opacities=(SCENE.opacities > 0.5).float()))

    def test_flat_gaussians(self):
        self.accepts(by_scales(scales=torch.tensor([0.1, 0.1, 0.0]).expand(1, 12, 3)))

    def test_rounded_poses(self):
        self.accepts(views=cameras(lambda w: w.to(torch.bfloat16).float()))

    def test_half_precision_throughout(self):
        for dtype in (torch.bfloat16, torch.float16):
            self.accepts(SCENE.to(dtype), VIEWS.to(dtype))

    def test_an_infinite_far_limit(self):
        self.accepts(views=views(far=float("inf")))

    def test_the_principal_point_in_a_corner_of_a_crop(self):
        self.accepts(views=cameras(set_to(0.0, ..., slice(2), 2), "intrinsics"))

    def test_black_and_white_images(self):
        for value in (0.0, 1.0):
            self.accepts(views=views(images=torch.full_like(VIEWS.images, value)))

    def test_pixel_weights_that_are_a_mask(self):
        self.accepts(pixel_weights=torch.ones(1, 2, 12, 16, dtype=torch.bool))

    def test_views_without_images(self):
        self.accepts(views=views(images=None))

    def test_one_scene_of_several_that_looks_away(self):
        several, cams = random_scene(batch=2)
        several.means[1, :, 2] -= 10
        self.accepts(several, cams)

    def test_one_view_that_looks_away(self):
        self.accepts(views=cameras(lambda w: torch.cat([w[:, :1], OPENGL(w[:, 1:])], 1)))

    @pytest.mark.parametrize("name", ["means", "covariances", "opacities", "harmonics"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_what_is_not_finite_is_for_the_layer_to_contain(self, name, value):
        broken = SCENE.map(torch.clone)
        getattr(broken, name)[0, 3] = value
        self.accepts(broken)

    @pytest.mark.parametrize("name", ["world_to_camera", "intrinsics", "images"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_broken_views_likewise(self, name, value):
        self.accepts(views=cameras(set_to(value, 0, 0, 0), name))


class TestScenesThatKeepTheirPrediction:
    def run(self, scene, views, **options):
        return TTOLayer(TTOConfig(inner_steps=2, backend="torch"), **options)(scene, views, 0.3)

    def test_are_warned_of_with_the_reason(self):
        broken, cams = refinable_scene(batch=2)
        broken.means[1, 0, 0] = float("nan")
        with pytest.warns(FallbackWarning, match=r"1 of 2 scenes.*scene 1 \(invalid_gaussians: a Gaussian is not fin"):
            self.run(broken, cams)

    def test_are_not_warned_of_where_that_was_asked_for(self):
        broken, cams = refinable_scene()
        broken.means[0, 0, 0] = float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, info = self.run(broken, cams, warn_of_fallbacks=False)
        assert info.outcomes == (Outcome.INVALID_GAUSSIANS,)

    def test_refined_scenes_warn_of_nothing(self):
        good, cams = refinable_scene()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.run(good, cams)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["means", "opacities", "harmonics", "covariances", "images", "intrinsics"])
    def test_what_is_not_finite_is_not_called_nothing_to_gain(self, name, value):
        broken, cams = refinable_scene()
        if name in ("images", "intrinsics"):
            changed = getattr(cams, name).clone()
            changed[0, 0, 0] = value
            cams = cams.replace(**{name: changed})
        else:
            getattr(broken, name)[0, 2] = value
        with pytest.warns(FallbackWarning):
            _, info = self.run(broken, cams)
        assert info.fell_back.all()

    def test_a_prediction_that_renders_to_infinity_is_not_called_nothing_to_gain(self):
        broken, cams = refinable_scene(dtype=torch.float32)
        broken.harmonics[0, :, :, 0] = 1e30
        with pytest.warns(FallbackWarning):
            _, info = self.run(broken, cams)
        assert info.outcomes == (Outcome.NO_DESCENT,)

    def test_a_solve_that_breaks_down_is_told_from_steps_that_fail(self, monkeypatch):
        """A negative curvature is nothing that more damping cures."""
        from diff3r_plugin.objective import LinearizedObjective

        product = LinearizedObjective.gauss_newton_product
        monkeypatch.setattr(LinearizedObjective, "gauss_newton_product", lambda *a, **k: -product(*a, **k))
        with pytest.warns(FallbackWarning, match="solve_failed: no linear solve gave a step"):
            _, info = self.run(*refinable_scene())
        assert set(info.outcomes) == {Outcome.SOLVE_FAILED}


def test_checks_can_be_left_out():
    looking_away = cameras(OPENGL)
    with pytest.raises(ValueError, match="in front"):
        refine(views=looking_away)
    _, info = TTOLayer(TTOConfig(inner_steps=1, backend="torch"), validate=False)(SCENE, looking_away, 1.0)
    assert info.outcomes == (Outcome.NOTHING_TO_GAIN,)
