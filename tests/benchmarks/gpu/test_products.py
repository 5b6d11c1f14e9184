"""The checks pass for a right backend and fail for a wrong one, each for its own product."""

import dataclasses

import pytest
import torch

from benchmarks.gpu import products, scenes
from benchmarks.gpu.products import PRODUCT_CHECKS, SHAPES, Check, Subject, all_products, relative
from benchmarks.gpu.scenes import (
    CLEAR,
    DEGENERATE,
    clear_scene,
    float32_scene,
    float32_tangent,
    smooth_scene,
    threshold_distance,
)
from diff3r_plugin.render import available_backends, linearize, torch_backend
from diff3r_plugin.render.semantics import ALPHA_SKIP

BACKEND = available_backends()[0]
SMALL = dict(gaussians=6, views=2, size=(11, 18), degree=1)


class Wrong:
    """A linearization with one thing wrong."""

    def __init__(self, lin, what, by=1.001):
        self.lin, self.what, self.by = lin, what, by
        self.image = lin.image * by if what == "image" else lin.image

    def jvp(self, tangent, cameras=None):
        if self.what == "jvp with cameras":
            cameras = None
        return self.lin.jvp(tangent, cameras) * (self.by if self.what == "jvp" else 1)

    def vjp(self, cotangent):
        return self._spoilt(self.lin.vjp(cotangent), "vjp")

    def vjp_cameras(self, cotangent):
        scene, cameras = self.lin.vjp_cameras(cotangent)
        return self._spoilt(scene, "vjp_cameras, scene"), -cameras if self.what == "vjp_cameras, cameras" else cameras

    def gauss_newton_product(self, tangent, weights):
        return self._spoilt(self.lin.gauss_newton_product(tangent, weights), "gauss_newton_product")

    def gram(self, weights):
        found = self.lin.gram(weights)
        if self.what == "gram, core":
            core = found.core.clone()
            core[..., 3, 4] *= 0.9  # one entry of 169, and its mirror image left alone
            return dataclasses.replace(found, core=core)
        return dataclasses.replace(found, sh_rest=2 * found.sh_rest) if self.what == "gram, sh_rest" else found

    def _spoilt(self, scene, what):
        """Only the opacities' part: the others must not hide it."""
        if self.what != what:
            return scene
        return dataclasses.replace(scene, opacities=scene.opacities * self.by)


def subject(what=None, by=1.001) -> Subject:
    function = linearize if what is None else lambda *arguments: Wrong(linearize(*arguments), what, by)
    return Subject(BACKEND, torch.device("cpu"), function)


def failures(what, check=None, by=1.001) -> set[str]:
    if check is None:
        found = all_products(subject(what, by), *clear_scene(**SMALL), "small", products.EXACT)
    else:
        found = check(subject(what, by))
    return {c.name for c in found if c.passed is False}


@pytest.mark.parametrize("check", [c for c in PRODUCT_CHECKS if c.__name__ != "check_larger_scene"])
def test_a_right_backend_passes(check, monkeypatch):
    monkeypatch.setattr(products, "SHAPES", SHAPES[1:3])
    monkeypatch.setattr(products, "DEGENERATE", {k: DEGENERATE[k] for k in ("NaN mean", "beside the camera")})
    found = list(check(subject()))
    assert found and all(c.passed for c in found), [c for c in found if not c.passed]


@pytest.mark.parametrize(
    "what",
    (
        "image",
        "jvp",
        "jvp with cameras",
        "vjp",
        "vjp_cameras, scene",
        "vjp_cameras, cameras",
        "gauss_newton_product",
        "gram, core",
        "gram, sh_rest",
    ),
)
def test_a_wrong_product_fails_and_is_named(what):
    expected = {"jvp", "jvp with cameras"} if what == "jvp" else {what}
    assert failures(what) == expected


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("jvp", "adjointness"),
        ("jvp with cameras", "adjointness"),
        ("vjp_cameras, cameras", "adjointness"),
        ("gauss_newton_product", "symmetry"),
        ("jvp", "vᵀJᵀWJ v = ‖W½ J v‖²"),
    ],
)
def test_a_wrong_product_breaks_an_identity(what, name):
    assert name in failures(what, products.check_identities, by=1.05)


def test_a_wrong_jvp_differs_from_differences():
    assert failures("jvp with cameras", products.check_differences) == {"jvp against differences"}


def test_a_gradient_for_the_invisible_fails(monkeypatch):
    monkeypatch.setattr(products, "DEGENERATE", {k: DEGENERATE[k] for k in ("behind the camera", "zero opacity")})

    class Haunted(Wrong):
        def vjp(self, cotangent):
            return self.lin.vjp(cotangent).map(lambda t: t + 1e-12)

    haunted = Subject(BACKEND, torch.device("cpu"), lambda *a: Haunted(linearize(*a), None))
    found = {c.name for c in products.check_degenerate_scenes(haunted) if c.passed is False}
    assert found == {"no gradient for what cannot be seen"}


def test_nan_and_wrong_shapes_are_failures():
    one = torch.ones(3)
    assert Check.of("a", "b", relative(one * float("nan"), one), 1.0).passed is False
    assert Check.of("a", "b", relative(torch.ones(1), one), 1.0).passed is False
    assert relative(one, 2 * one) == pytest.approx(0.5)


def test_clear_scenes_are_clear_and_others_are_found_out(monkeypatch):
    scene, views = clear_scene(**SMALL)
    assert threshold_distance(scene, views) > CLEAR
    splats = torch_backend.project(scene, views)
    pixel = torch.tensor([[7.5, 5.5]], dtype=torch.float64)
    _, alphas, _ = torch_backend.blending_weights(splats, pixel)
    front = alphas[0, 0, 0]
    index = int(front.argmax())
    order = torch_backend.project_unsorted(scene, views)[1][0, 0].argsort()
    opacities = scene.opacities.clone()
    opacities[0, order[index]] *= ALPHA_SKIP * (1 + 1e-6) / front[index]  # this pixel's alpha now is 1/255, almost
    assert threshold_distance(dataclasses.replace(scene, opacities=opacities), views) < 1e-5
    monkeypatch.setattr(scenes, "CLEAR", 10.0)
    with pytest.raises(RuntimeError, match="clear of the thresholds"):
        clear_scene(gaussians=2, size=(4, 4))


def test_the_smooth_scene_has_no_threshold():
    scene, views = smooth_scene()
    splats = torch_backend.project(scene, views)
    for pixels in torch_backend._pixel_chunks(splats, views):
        assert (torch_backend.blending_weights(splats, pixels)[1] > ALPHA_SKIP).all()


def test_scenes_are_float32_numbers():
    scene, views = float32_scene()
    for tensor in (*scene.tensors(), *float32_tangent(scene).tensors(), views.world_to_camera, views.intrinsics):
        assert tensor.dtype == torch.float64 and torch.equal(tensor.float().double(), tensor)
