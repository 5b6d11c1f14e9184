"""The CPU's kernels for tensors elsewhere: the same numbers, there and back."""

import pytest
import torch
from scenes import random_scene, random_tangent

from diff3r_plugin.render import linearize, native_backend
from diff3r_plugin.render.copied import CopiedLinearization


@pytest.fixture
def lins():
    if not native_backend.is_available():
        pytest.skip("no C++ compiler here")
    scene, views = random_scene(gaussians=9, views=2, size=(16, 16))
    return (
        scene,
        CopiedLinearization(scene, views, native_backend.NativeLinearization),
        linearize(scene, views, "native"),
    )


def test_every_product_is_that_of_the_linearization_on_the_cpu(lins):
    scene, copied, plain = lins
    tangent, cotangent = random_tangent(scene), torch.randn_like(plain.image)
    weights, cameras = torch.rand_like(plain.image[:, :, 0]), torch.randn(1, 2, 4, 4).double()
    assert torch.equal(copied.image, plain.image)
    assert torch.equal(copied.jvp(tangent, cameras), plain.jvp(tangent, cameras))
    for a, b in (
        (copied.vjp(cotangent), plain.vjp(cotangent)),
        (copied.vjp_cameras(cotangent)[0], plain.vjp_cameras(cotangent)[0]),
        (copied.gauss_newton_product(tangent, weights), plain.gauss_newton_product(tangent, weights)),
    ):
        assert all(torch.equal(x, y) for x, y in zip(a.tensors(), b.tensors(), strict=True))
    assert torch.equal(copied.vjp_cameras(cotangent)[1], plain.vjp_cameras(cotangent)[1])
    assert torch.equal(copied.gram(weights).core, plain.gram(weights).core)
    assert torch.equal(copied.gram(weights).sh_rest, plain.gram(weights).sh_rest)


def test_the_backend_copies_what_is_on_no_cpu(monkeypatch, lins):
    """On tensors without numbers, which are as far from the CPU as those of a GPU."""
    scene, views = random_scene(gaussians=3, views=1, size=(8, 8))
    made = []
    monkeypatch.setattr(native_backend, "CopiedLinearization", lambda *given: made.append(given) or "copied")
    assert native_backend.linearize(scene.to("meta"), views.to("meta")) == "copied"
    assert made[0][2] is native_backend.NativeLinearization and native_backend.is_available("cuda")
