"""The layer as its users see it: gradients by every mode, containment of trouble, errors that help."""

import warnings

import pytest
import torch
from scenes import random_scene, refinable_scene

from diff3r_plugin import Gaussians, Outcome, ProximalWeights, StationarityWarning, TTOConfig, TTOLayer
from diff3r_plugin.render import linearize, render

COLOR = ("sh_dc",)
MODES = ("implicit", "stepwise", "unroll", "truncated", "first_order")


def converged(**changes) -> TTOConfig:
    options = dict(
        inner_steps=12,
        pcg_iterations=200,
        inner_pcg_iterations=None,
        damping=1e-3,
        pcg_tolerance=1e-12,
        stationarity_tolerance=0.0,
        truncated_steps=12,
    )
    if changes.get("backward_mode") in ("unroll", "truncated"):
        options["backend"] = "torch"
    return TTOConfig(**{**options, **changes})


def leaves(scene: Gaussians) -> Gaussians:
    return scene.map(lambda t: t.clone().requires_grad_())


def outer_loss(refined: Gaussians, views) -> torch.Tensor:
    shifted = views.world_to_camera.clone()
    shifted[..., 0, 3] += 0.1
    return ((render(refined, views.replace(world_to_camera=shifted), "torch") - 0.4) ** 2).sum()


def weights_leaf(scene, value, size=1):
    return torch.full((*scene.opacities.shape, size), value, dtype=torch.float64, requires_grad=True)


class TestColorOnlyProblemIsLinear:
    """With positions, shapes and opacities fixed and no color clamped, E is quadratic: everything has closed form."""

    def setup_method(self):
        scene, self.views = random_scene(gaussians=5, size=(6, 7), degree=0)
        bright = 0.3 * torch.rand_like(scene.harmonics)
        self.scene = leaves(Gaussians(scene.means, scene.covariances, scene.opacities, bright))
        self.weights = weights_leaf(scene, 0.7, 3)

    def closed_form(self):
        lin = linearize(self.scene.detach(), self.views, "torch")
        columns = []
        for i in range(15):
            d = self.scene.detach().map(torch.zeros_like)
            d.harmonics.view(-1)[i] = 1
            columns.append(lin.jvp(d).flatten())
        J = torch.stack(columns, -1)
        h0, Lambda = self.scene.harmonics.flatten(), self.weights.flatten()
        residual0 = lin.image.flatten() - J @ h0.detach() - self.views.images.flatten()
        h = torch.linalg.solve(J.T @ J + torch.diag(Lambda), Lambda * h0 - J.T @ residual0)
        return h.reshape(1, 5, 3, 1)

    def gradients(self, harmonics):
        loss = ((harmonics - 0.2) ** 2).sum() + (harmonics**3).sum()
        return torch.autograd.grad(loss, [self.scene.harmonics, self.weights])

    @pytest.mark.parametrize("mode", ["implicit", "stepwise", "unroll"])
    def test_solution_and_gradients_are_those_of_the_closed_form(self, mode):
        layer = TTOLayer(converged(backward_mode=mode, groups=COLOR))
        refined, info = layer(self.scene, self.views, {"sh_dc": self.weights})
        exact = self.closed_form()
        torch.testing.assert_close(refined.harmonics, exact, rtol=1e-7, atol=1e-9)
        assert (info.stationarity < 1e-6).all()
        for ours, theirs in zip(self.gradients(refined.harmonics), self.gradients(exact), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)

    def test_gradients_to_images_and_pixel_weights_on_request(self):
        layer = TTOLayer(converged(groups=COLOR))
        images = self.views.images.clone().requires_grad_()
        pixels = (0.5 + torch.rand_like(images[:, :, 0])).detach().requires_grad_()

        def solve(images, pixels):
            views = self.views.replace(images=images)
            return layer(self.scene.detach(), views, 0.7, pixels)[0].harmonics.pow(2).sum()

        gradients = torch.autograd.grad(solve(images, pixels), [images, pixels])
        step = 1e-5
        for which, gradient in enumerate(gradients):
            direction = torch.randn_like(gradient).clamp(-1, 1)
            at = [[t.detach() for t in (images, pixels)] for _ in range(2)]
            for sign, inputs in zip((1, -1), at, strict=True):
                inputs[which] = inputs[which] * 0.9 + 0.05 + sign * step * direction
            inside = [images.detach(), pixels.detach()]
            inside[which] = inside[which] * 0.9 + 0.05
            inputs = [t.requires_grad_() for t in inside]
            gradient = torch.autograd.grad(solve(*inputs), inputs)[which]
            numeric = (solve(*at[0]) - solve(*at[1])) / (2 * step)
            torch.testing.assert_close((gradient * direction).sum(), numeric.detach(), rtol=1e-4, atol=1e-7)


class TestGradientsOfTheWholeProblem:
    """All groups move. Where the images can be matched, Gauss-Newton is the Hessian and the theorem is exact."""

    def gradients(self, mode, scene, views, weights, **changes):
        layer = TTOLayer(converged(backward_mode=mode, **changes))
        refined, info = layer(scene, views, weights)
        tensors = [*scene.tensors(), *weights.tensors().values()]
        return torch.autograd.grad(outer_loss(refined, views), tensors, allow_unused=True), info

    def problem(self, weight):
        truth, views = random_scene(gaussians=4, size=(7, 8), degree=0, views=3)
        views = views.replace(images=render(truth, views))
        assert views.images.min() >= 0 and views.images.max() <= 1
        scene = leaves(truth.map(lambda t: t + 0.0))
        # The start is the truth: residuals vanish at the solution, so nothing is dropped from the Hessian.
        names = ("means", "covariance", "opacity", "sh_dc")
        return scene, views, ProximalWeights(**{n: weights_leaf(truth, weight) for n in names})

    def test_implicit_is_exact_where_residuals_vanish(self):
        scene, views, weights = self.problem(0.3)
        (means, covariances, opacities, harmonics, *_), _ = self.gradients("implicit", scene, views, weights)
        layer = TTOLayer(converged(inner_steps=30))

        def loss_at(name, direction, step):
            moved = {n: getattr(scene, n).detach() for n in ("means", "covariances", "opacities", "harmonics")}
            moved[name] = moved[name] + step * direction
            refined, _ = layer(Gaussians(**moved), views, 0.3)
            return outer_loss(refined, views).item()

        for name, gradient in zip(
            ("means", "covariances", "opacities", "harmonics"),
            (means, covariances, opacities, harmonics),
            strict=True,
        ):
            direction = torch.randn_like(gradient)
            if name == "covariances":
                direction = 0.05 * (direction + direction.mT)
            step = 1e-4
            numeric = (loss_at(name, direction, step) - loss_at(name, direction, -step)) / (2 * step)
            assert (gradient * direction).sum().item() == pytest.approx(numeric, rel=2e-3, abs=1e-6)

    def test_unrolled_equals_finite_differences_where_residuals_do_not_vanish(self):
        scene, views = refinable_scene(gaussians=3, size=(6, 6), degree=0)
        scene, weights = (
            leaves(scene),
            ProximalWeights.of({n: weights_leaf(scene, 0.5) for n in ("means", "covariance", "opacity", "sh_dc")}),
        )
        gradients, _ = self.gradients("unroll", scene, views, weights, inner_steps=8)
        layer = TTOLayer(converged(inner_steps=25))
        direction, step = torch.randn_like(scene.means), 1e-5

        def loss_at(s):
            moved = Gaussians(scene.means + s * direction, scene.covariances, scene.opacities, scene.harmonics)
            return outer_loss(layer(moved.detach(), views, 0.5)[0], views).item()

        numeric = (loss_at(step) - loss_at(-step)) / (2 * step)
        assert (gradients[0] * direction).sum().item() == pytest.approx(numeric, rel=1e-3)

    def test_large_weights_make_the_layer_the_identity(self):
        scene, views, _ = self.problem(1.0)
        views = views.replace(images=(views.images * 0.5 + 0.2))
        refined, _ = TTOLayer(converged())(scene, views, 1e9)
        torch.testing.assert_close(refined.means, scene.means, rtol=0, atol=1e-6)
        through = torch.autograd.grad(outer_loss(refined, views), scene.tensors())
        direct = torch.autograd.grad(outer_loss(scene, views), scene.tensors())
        for a, b in zip(through, direct, strict=True):
            torch.testing.assert_close(a, 0.5 * (b + b.mT) if a.shape[-2:] == (3, 3) else b, rtol=1e-4, atol=1e-4)

    def test_gradient_to_the_start_vanishes_with_the_weights(self):
        # Colors of Gaussians that are well seen: the data determine the solution, whatever the start was.
        scene, views = random_scene(gaussians=3, size=(16, 16), degree=0)
        scene = leaves(scene)
        norms = []
        for weight in (1.0, 1e-3, 1e-6, 1e-9):
            layer = TTOLayer(converged(groups=COLOR, pcg_iterations=500))
            refined, _ = layer(scene, views, weight)
            norms.append(torch.autograd.grad(refined.harmonics.sum(), scene.harmonics)[0].norm().item())
        assert norms[0] > 10 * norms[1] > 1000 * norms[2]
        assert norms[3] < 1e-7

    def test_truncation_over_all_steps_is_unrolling_and_over_few_is_not(self):
        scene, views = refinable_scene(gaussians=3, size=(6, 6), degree=0)
        scene = leaves(scene)
        weights = ProximalWeights.of({n: weights_leaf(scene, 0.5) for n in ("means", "covariance", "opacity", "sh_dc")})
        options = dict(inner_steps=4, inner_pcg_iterations=3)
        full, _ = self.gradients("unroll", scene, views, weights, **options)
        same, _ = self.gradients("truncated", scene, views, weights, truncated_steps=4, **options)
        short, _ = self.gradients("truncated", scene, views, weights, truncated_steps=1, **options)
        # unroll also starts from θ0 itself; truncation cuts the start off, and keeps the proximal term's path.
        assert (same[4] - full[4]).norm() < 0.2 * full[4].norm()
        assert (short[0] - full[0]).norm() > 1e-3 * full[0].norm()

    def test_first_order_passes_the_gradient_at_the_solution_to_the_start(self):
        scene, views = refinable_scene(gaussians=4, degree=0)
        scene = leaves(scene)
        refined, _ = TTOLayer(converged(backward_mode="first_order"))(scene, views, 0.5)
        through = torch.autograd.grad(refined.harmonics.sum() + refined.means.sum(), [scene.harmonics, scene.means])
        for gradient in through:
            torch.testing.assert_close(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("solver", ["gauss_newton", "adam"])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_mode_runs_with_every_solver_and_batch(mode, solver, batch):
    if (mode, solver) == ("stepwise", "adam"):
        with pytest.raises(ValueError, match="reverses Gauss-Newton steps; got inner_solver='adam'"):
            TTOConfig(inner_solver=solver, backward_mode=mode)
        return
    scene, views = refinable_scene(batch=batch, gaussians=4, size=(6, 6))
    scene = leaves(scene)
    weights = weights_leaf(scene, 0.5)
    config = TTOConfig(
        inner_solver=solver,
        inner_steps=3,
        backward_mode=mode,
        backend="torch",
        truncated_steps=3,
        learning_rates=dict.fromkeys(("means", "covariance", "opacity", "sh_dc", "sh_rest"), 0.005),
        stationarity_warning=None,
    )
    refined, info = TTOLayer(config)(scene, views, weights)
    assert (info.energy[-1] < info.energy[0]).all() and not info.fell_back.any()
    gradients = torch.autograd.grad(outer_loss(refined, views), [*scene.tensors(), weights], allow_unused=True)
    for gradient in gradients[:4]:
        assert gradient.isfinite().all() and gradient.abs().sum() > 0
    if mode != "first_order":
        assert gradients[4].isfinite().all() and gradients[4].abs().sum() > 0


def test_backends_give_the_same_solution_and_gradient(backend):
    scene, views = refinable_scene(batch=2)
    results = []
    for name in (backend, "torch"):
        leaf = leaves(scene)
        refined, _ = TTOLayer(TTOConfig(inner_steps=3, backend=name, stationarity_warning=None))(leaf, views, 0.3)
        results.append((refined.means, *torch.autograd.grad(outer_loss(refined, views), leaf.tensors())))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_scales_and_quats_come_back_as_such():
    scene, views = refinable_scene()
    scales, quats = 0.1 + 0.2 * torch.rand(1, 12, 3).double(), torch.randn(1, 12, 4).double()
    leaf = leaves(Gaussians.from_scales(scene.means, scales, quats, scene.opacities, scene.harmonics))
    refined, info = TTOLayer(TTOConfig(inner_steps=4))(leaf, views, 0.1)
    assert refined.covariances is None and (refined.scales > 0).all()
    assert (info.energy[-1] < info.energy[0]).all()
    before = ((render(leaf, views) - views.images) ** 2).sum()
    after = ((render(refined, views) - views.images) ** 2).sum()
    assert after < 0.5 * before
    assert torch.autograd.grad(after, leaf.scales)[0].abs().sum() > 0


def test_poses_move_when_asked(backend):
    scene, views = random_scene(views=3, gaussians=30, size=(24, 24))
    views = views.replace(images=render(scene, views).clamp(0, 1))
    wrong = views.world_to_camera.clone()
    wrong[:, 1, 0, 3] += 0.05
    config = TTOConfig(groups=("sh_dc", "poses"), inner_steps=10, pcg_iterations=30, backend=backend)
    weights = ProximalWeights(sh_dc=1.0, poses=1e-3)
    _, info = TTOLayer(config)(scene, views.replace(world_to_camera=wrong), weights)
    error = (info.views.world_to_camera - views.world_to_camera)[0].abs()
    assert error.max() < 0.005
    fixed = TTOLayer(TTOConfig(inner_steps=2, backend=backend))(scene, views, 1.0)[1]
    assert fixed.views is views


def test_a_scene_that_is_given_back_keeps_its_cameras():
    scene, views = random_scene(batch=2, views=2, gaussians=8, size=(8, 8))
    scene.means[1, 0] = torch.nan
    layer = TTOLayer(TTOConfig(groups=("means", "poses"), inner_steps=2, stationarity_warning=None))
    _, info = layer(scene, views, {"means": 0.1, "poses": 1e-3})
    assert info.outcomes[1] is Outcome.INVALID_GAUSSIANS
    assert torch.equal(info.views.world_to_camera[1], views.world_to_camera[1])
    assert not torch.equal(info.views.world_to_camera[0], views.world_to_camera[0])


class TestTroubleStaysInItsScene:
    def run(self, scene, views, **options):
        layer = TTOLayer(TTOConfig(inner_steps=3, stationarity_warning=None, **options))
        return layer(scene, views, 0.3)

    @pytest.mark.parametrize(
        ("name", "value", "outcome"),
        [
            ("means", float("nan"), Outcome.INVALID_GAUSSIANS),
            ("covariances", -1.0, Outcome.INVALID_GAUSSIANS),
            ("covariances", float("inf"), Outcome.INVALID_GAUSSIANS),
            ("harmonics", float("nan"), Outcome.INVALID_GAUSSIANS),
            ("all opacities", 0.0, Outcome.NOTHING_TO_GAIN),
            ("all behind", -5.0, Outcome.NOTHING_TO_GAIN),
        ],
    )
    def test_the_scene_comes_back_as_it_was_and_the_others_are_refined(self, backend, name, value, outcome):
        scene, views = refinable_scene(batch=3, gaussians=6)
        broken = scene.map(torch.clone)
        if name == "all opacities":
            broken.opacities[1] = value
        elif name == "all behind":
            broken.means[1, :, 2] = value
        elif name == "covariances" and value == -1:
            broken.covariances[1, 2] = -torch.eye(3)
        else:
            getattr(broken, name)[1, 2] = value
        leaf = leaves(broken)
        refined, info = self.run(leaf, views, backend=backend)
        assert info.outcomes == (Outcome.REFINED, outcome, Outcome.REFINED)
        assert info.fell_back.tolist() == [False, outcome.fell_back, False]
        for a, b in zip(refined.tensors(), broken.tensors(), strict=True):
            assert torch.equal(torch.nan_to_num(a[1]), torch.nan_to_num(b[1]))
        clean, _ = self.run(scene, views, backend=backend)
        for a, b in zip(refined.tensors(), clean.tensors(), strict=True):
            torch.testing.assert_close(a[[0, 2]], b[[0, 2]], rtol=1e-6, atol=1e-9)
        gradients = torch.autograd.grad(sum(t[[0, 2]].sum() for t in refined.tensors()), leaf.tensors())
        for gradient in gradients:
            assert gradient.isfinite().all()

    def test_one_gaussian_behind_the_camera_is_no_trouble(self, backend):
        scene, views = refinable_scene()
        scene.means[0, 3, 2] = -2.0
        refined, info = self.run(scene, views, backend=backend)
        assert info.outcomes == (Outcome.REFINED,)
        assert torch.equal(refined.means[0, 3], scene.means[0, 3])

    def test_broken_images_and_cameras(self, backend):
        scene, views = refinable_scene(batch=2)
        views.images[0, 0, 0, 0, 0] = float("nan")
        refined, info = self.run(scene, views, backend=backend)
        assert info.outcomes == (Outcome.INVALID_VIEWS, Outcome.REFINED)
        assert torch.equal(refined.means[0], scene.means[0])

    def test_broken_gradient_from_the_loss(self, backend):
        scene, views = refinable_scene(batch=2)
        leaf = leaves(scene)
        refined, info = self.run(leaf, views, backend=backend)
        loss = refined.means[0].sum() * float("nan") + refined.means[1].sum()
        gradient = torch.autograd.grad(loss, leaf.means)[0]
        assert (gradient[0] == 0).all()
        assert gradient[1].isfinite().all() and gradient[1].abs().sum() > 0
        assert str(info.backward.reasons[0]) == "non_finite"


class TestContexts:
    def test_inference_mode_and_no_grad_refine_all_the_same(self, backend):
        scene, views = refinable_scene()
        layer = TTOLayer(TTOConfig(inner_steps=3, backend=backend))
        expected, _ = layer(scene, views, 0.3)
        with torch.no_grad():
            torch.testing.assert_close(layer(scene, views, 0.3)[0].means, expected.means)
        with torch.inference_mode():
            inside, cameras = scene.map(torch.clone), views.replace(images=views.images.clone())
            refined, _ = layer(inside, cameras, torch.full((1, 12, 1), 0.3, dtype=torch.float64))
            torch.testing.assert_close(refined.means, expected.means)
        assert not refined.means.is_inference() and not refined.means.requires_grad

    def test_autocast_computes_in_float32(self, backend):
        scene, views = refinable_scene(dtype=torch.float32)
        layer = TTOLayer(TTOConfig(inner_steps=3, backend=backend))
        expected, _ = layer(scene, views, 0.3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            refined, _ = layer(scene, views, 0.3)
        assert refined.means.dtype == torch.float32
        torch.testing.assert_close(refined.means, expected.means)

    def test_half_precision_scenes_come_back_in_half_precision(self, backend):
        scene, views = refinable_scene(dtype=torch.float32)
        refined, _ = TTOLayer(TTOConfig(inner_steps=2, backend=backend))(scene.to(torch.bfloat16), views, 0.3)
        assert refined.means.dtype == torch.bfloat16


class TestErrorsAndWarnings:
    def test_short_inner_loops_warn_when_the_gradient_is_taken(self):
        scene, views = refinable_scene()
        leaf = leaves(scene)
        config = TTOConfig(inner_steps=1, inner_pcg_iterations=1, stationarity_warning=0.1)
        refined, _ = TTOLayer(config)(leaf, views, 0.01)
        with pytest.warns(StationarityWarning, match="Raise inner_steps"):
            refined.means.sum().backward()

    def test_converged_inner_loops_do_not_warn(self):
        scene, views = refinable_scene()
        refined, info = TTOLayer(converged(inner_steps=8))(leaves(scene), views, 0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error", StationarityWarning)
            refined.means.sum().backward()
        assert set(map(str, info.backward.reasons)) == {"converged"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s, v: (s, v.replace(images=v.images * 2 - 1), 1.0), r"\[0, 1\], got \[-0.99.*image \* 0.5"),
            (lambda s, v: (s, v.replace(images=v.images * 255), 1.0), r"image / 255"),
            (lambda s, v: (s, v, -1.0), "positive and finite; means holds -1"),
            (lambda s, v: (s, v, {"means": 1.0}), "'covariance' is optimized but has no proximal weight"),
            (lambda s, v: (s, v, {"color": 1.0}), "'color'"),
            (lambda s, v: (s, v, torch.ones(5, 3)), "does not broadcast"),
            (lambda s, v: (random_scene(batch=2)[0], v, 1.0), "2 scenes but Views 1"),
            (lambda s, v: (s, v.replace(images=None, image_size=(12, 16)), 1.0), "images=None"),
        ],
    )
    def test_bad_input_is_named_with_its_cure(self, change, message):
        with pytest.raises(ValueError, match=message):
            TTOLayer()(*change(*random_scene()))

    def test_unrolling_needs_a_twice_differentiable_backend(self):
        scene, views = random_scene()
        with pytest.raises(ValueError, match="backend='torch'"):
            TTOLayer(TTOConfig(backward_mode="unroll", backend="native"))(leaves(scene), views, 1.0)
