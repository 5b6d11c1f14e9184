"""What is particular to the GPU backend, on a CPU: see ``gsplat_on_cpu``. The rest is in ``test_backends``."""

import sys
import types
import warnings
from dataclasses import replace

import gsplat_on_cpu
import pytest
import torch
from scenes import random_scene, random_tangent, refinable_scene

from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
from diff3r_plugin.kernels.loading import library_cuda
from diff3r_plugin.kernels.loading.cache import BuildError
from diff3r_plugin.render import (
    available_backends,
    gsplat_backend,
    gsplat_rasterizer,
    linearize,
    resolve_backend,
)
from diff3r_plugin.render.gsplat_backend import GsplatLinearization
from diff3r_plugin.render.gsplat_rasterizer import GsplatError
from diff3r_plugin.render.semantics import ALPHA_CAP


@pytest.fixture(scope="module", autouse=True)
def compiled():
    if gsplat_on_cpu.library() is None:
        pytest.skip("no g++ here to compile the GPU kernels for a CPU")


def on_cpu(scene, views, **options) -> GsplatLinearization:
    return GsplatLinearization(scene, views, gsplat_on_cpu.rasterizer(scene.dtype, **options))


def _opaque() -> tuple[Gaussians, object]:
    scene, views = random_scene(gaussians=6, views=1, degree=0)
    return Gaussians(scene.means, scene.covariances, torch.ones_like(scene.opacities), scene.harmonics), views


def test_the_products_follow_gsplats_stop_rule_in_its_precision():
    """Four splats of alpha 0.9 leave 1.00000085e-4 in float32: gsplat renders the fourth, so it has derivatives."""
    scene, views = random_scene(gaussians=5, views=1, size=(4, 4), degree=0)
    means = torch.tensor([0.0, 0.0, 1.0]) * torch.arange(2, 7)[None, :, None]
    wide = 1e8 * torch.eye(3).expand(1, 5, 3, 3)
    scene = Gaussians(means, wide, torch.full((1, 5), 0.9), scene.harmonics).to(torch.float32)
    views = views.replace(world_to_camera=torch.eye(4)[None, None]).to(torch.float32)
    lin = on_cpu(scene, views)
    colored = (on_cpu(_recolored(scene, 3), views).image - lin.image).abs().amax()
    assert colored > 0, "gsplat must render the fourth splat for this test to say anything"
    cotangent = torch.ones_like(lin.image)
    seen = lin.vjp(cotangent).harmonics[0, :, :, 0].abs().sum(-1) > 0
    assert seen.tolist() == [True, True, True, True, False]
    tangent = scene.map(torch.zeros_like)
    tangent.harmonics[0, 3] = 1.0
    assert (lin.jvp(tangent) != 0).all()
    product = lin.gauss_newton_product(tangent, cotangent[:, :, 0]).harmonics[0, :, 0, 0]
    assert (product[:4] > 0).all() and product[4] == 0
    assert (lin.gram(cotangent[:, :, 0]).core[0, :, 10, 10] > 0).tolist() == [True, True, True, True, False]


def _recolored(scene: Gaussians, index: int) -> Gaussians:
    harmonics = scene.harmonics.clone()
    harmonics[0, index] += 1.0
    return Gaussians(scene.means, scene.covariances, scene.opacities, harmonics)


def test_the_products_follow_the_rasterizers_alpha_cap():
    """With another cap than ours, J v must be the derivative of that rasterizer's image, not of our own."""
    scene, views = _opaque()
    tangent, step = random_tangent(scene), 1e-6

    def image(sign):
        moved = [a + sign * step * b for a, b in zip(scene.tensors(), tangent.tensors(), strict=True)]
        return on_cpu(Gaussians(*moved), views, alpha_cap=0.5).image

    lin = on_cpu(scene, views, alpha_cap=0.5)
    difference = (image(1) - image(-1)) / (2 * step)
    torch.testing.assert_close(lin.jvp(tangent), difference, atol=1e-6, rtol=1e-5)
    assert lin.alpha_cap == 0.5
    assert (lin.image - on_cpu(scene, views).image).abs().max() > 0.01
    weights = torch.rand_like(lin.image[:, :, 0])
    expected = lin.vjp(weights[:, :, None] * lin.jvp(tangent))
    for a, b in zip(lin.gauss_newton_product(tangent, weights).tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-9)


def test_an_image_larger_than_one_batch_of_splats_in_shared_memory():
    """More than 256 splats in a tile: they come in several batches, and rays end between them."""
    scene, views = random_scene(gaussians=600, views=1, size=(16, 16), degree=0)
    ours, oracle = on_cpu(scene, views), linearize(scene, views, "torch")
    weights, tangent = torch.rand_like(views.images[:, :, 0]), random_tangent(scene)
    torch.testing.assert_close(ours.image, oracle.image)
    torch.testing.assert_close(ours.jvp(tangent), oracle.jvp(tangent))
    pairs = (
        (
            ours.gauss_newton_product(tangent, weights).tensors(),
            oracle.gauss_newton_product(tangent, weights).tensors(),
        ),
        ((ours.gram(weights).core,), (oracle.gram(weights).core,)),
    )
    for a, b in pairs:
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, atol=1e-9, rtol=1e-8)


def test_warps_look_only_at_splats_that_may_show_there_and_miss_none():
    """Small and needle-shaped splats all over two tiles; every alpha of 1/255 counts, however far from its center."""
    scene, views = random_scene(gaussians=150, views=1, size=(32, 32), degree=0, seed=4)
    generator = torch.Generator().manual_seed(4)
    spread = torch.rand(1, 150, 3, generator=generator).double() * torch.tensor([0.3, 0.02, 0.02])
    turn, _ = torch.linalg.qr(torch.randn(150, 3, 3, generator=generator).double())
    factor = turn * spread[..., None, :]
    scene = Gaussians(scene.means, factor @ factor.mT, scene.opacities, scene.harmonics)
    ours, oracle, tangent = on_cpu(scene, views), linearize(scene, views, "torch"), random_tangent(scene)
    gsplat_on_cpu.warp_visits()
    torch.testing.assert_close(ours.jvp(tangent), oracle.jvp(tangent), rtol=1e-9, atol=1e-9)
    visits, listed = gsplat_on_cpu.warp_visits(), ours.scene.flatten_ids.numel()
    assert visits < 8 * listed / 2, f"{visits} of {8 * listed} pairs of a warp and a listed splat"
    weights = torch.rand_like(ours.image[:, :, 0])
    product, expected = (lin.gauss_newton_product(tangent, weights) for lin in (ours, oracle))
    for a, b in zip(product.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * b.abs().max().item())


def test_products_subtract_their_own_weights_from_their_own_rendering():
    """gsplat's rendering is rounded otherwise; behind an opaque splat the difference would grow by α / (1 - α)."""
    scene, views = random_scene(gaussians=9, views=2, size=(16, 16))
    rasterizer, tangent = gsplat_on_cpu.rasterizer(scene.dtype), random_tangent(scene)

    def disturbed(*arguments, **options):
        image, alphas = rasterizer.rasterize_to_pixels(*arguments, **options)
        return image + 0.1, alphas

    def products(by):
        lin = GsplatLinearization(scene, views, by)
        weights = torch.linspace(0, 1, lin.image[:, :, 0].numel()).double().reshape(lin.image[:, :, 0].shape)
        gram = lin.gram(weights)
        return *lin.gauss_newton_product(tangent, weights).tensors(), gram.core, gram.sh_rest

    for a, b in zip(products(replace(rasterizer, rasterize_to_pixels=disturbed)), products(rasterizer), strict=True):
        assert torch.equal(a, b)


def test_a_splat_that_just_reaches_the_cap_has_no_derivative_of_alpha(gsplat_on_cpu_backend):
    """As in the reference: alpha is free below the cap only. (Nothing but the center's pixel is covered.)"""
    K = torch.tensor([[1e3, 0, 0.5], [0, 1e3, 0.5], [0, 0, 1.0]]).double()[None, None]
    views = Views(torch.eye(4).double()[None, None], K, image_size=(1, 1))
    one = torch.tensor([[[0.0, 0, 1]]]).double()
    opacity, color = torch.tensor([[ALPHA_CAP]]).double(), torch.ones(1, 1, 3, 1).double()
    scene = Gaussians(one, 1e-8 * torch.eye(3).double()[None, None], opacity, color)
    ones = torch.ones(1, 1, 3, 1, 1).double()
    for backend in (gsplat_on_cpu_backend, "torch", "native"):
        lin = linearize(scene, views, backend)
        product = lin.gauss_newton_product(scene.map(torch.ones_like), ones[:, :, 0])
        assert product.opacities.item() == 0, backend


def test_nothing_in_sight_leaves_the_background_and_zero_gradients():
    scene, views = random_scene()
    behind = Gaussians(scene.means - torch.tensor([0.0, 0, 9]), *scene.tensors()[1:])
    lin = on_cpu(behind, views)
    assert torch.equal(lin.image, views.background[:, None, None].expand_as(lin.image))
    gradient, cameras = lin.vjp_cameras(torch.ones_like(lin.image))
    assert all((t == 0).all() for t in (*gradient.tensors(), cameras))
    assert (lin.jvp(random_tangent(scene)) == 0).all()


def test_products_work_on_a_linearization_made_in_inference_mode():
    scene, views = random_scene()
    with torch.inference_mode():
        lin = on_cpu(scene, views)
    expected = on_cpu(scene, views).vjp(torch.ones_like(lin.image))
    torch.testing.assert_close(lin.vjp(torch.ones_like(lin.image)).means, expected.means)


def test_float64_is_refused_where_gsplat_computes_in_float32():
    scene, views = random_scene()
    with pytest.raises(ValueError, match=r"float32, got float64.*\.to\(torch\.float32\).*backend='torch'"):
        GsplatLinearization(scene, views, gsplat_on_cpu.rasterizer(torch.float32))


def test_inputs_that_change_afterwards_are_noticed():
    scene, views = random_scene()
    lin = on_cpu(scene, views)
    scene.means.add_(1)
    with pytest.raises(RuntimeError, match=r"means was changed in place"):
        lin.vjp(torch.ones_like(lin.image))
    with pytest.raises(RuntimeError, match=r"means was changed in place"):
        lin.gram(torch.ones_like(lin.image[:, :, 0]))


def test_out_of_memory_names_the_sizes_and_the_settings(monkeypatch):
    scene, views = random_scene(batch=2, gaussians=7)
    lin = on_cpu(scene, views)

    def no_memory(shape, dtype=None):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nmore")

    monkeypatch.setattr(lin.scene, "zeros", no_memory)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"7 Gaussians in 2 x 2 images.*batch size.*diff3r\.groups"):
        lin.gram(torch.ones_like(lin.image[:, :, 0]))


def test_the_cap_is_read_off_the_rasterizer():
    twins = gsplat_on_cpu.rasterizer(torch.float32, alpha_cap=0.999)
    functions = (twins.isect_tiles, twins.isect_offset_encode, twins.rasterize_to_pixels)
    # The twins take splats per image, as gsplat does without a scene dimension.
    assert gsplat_rasterizer._alpha_cap(functions, torch.device("cpu")) == 0.999


def test_cpu_tensors_never_go_to_gsplat():
    assert "gsplat" not in available_backends("cpu")
    with pytest.raises(ValueError, match=r"'gsplat' is not available for tensors on cpu.*backend='auto'"):
        resolve_backend("gsplat", "cpu")


def test_without_gsplat_a_gpu_sorts_and_rasterizes_by_itself_with_one_warning(monkeypatch):
    kernels = object()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(library_cuda, "load", lambda capability: kernels)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    device = torch.device("cuda", 0)
    forget = (gsplat_backend._failure, gsplat_rasterizer.load)
    for f in forget:
        f.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"rasterizes by itself.*Install gsplat >= 1\.5") as caught:
        assert resolve_backend("auto", device) == "gsplat"
        assert resolve_backend("auto", device) == "gsplat"
    assert len([w for w in caught if "gsplat" in str(w.message)]) == 1
    found = gsplat_backend.rasterizer_for(device)
    gsplat_rasterizer.load.cache_clear()
    monkeypatch.setenv("DIFF3R_WITHOUT_GSPLAT", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gsplat_backend.rasterizer_for(device) == found, "asked for: nothing to warn of"
    assert found.kernels is kernels and found.rasterize_to_pixels is None and found.alpha_cap == ALPHA_CAP
    for f in forget:
        f.cache_clear()


def test_without_a_compiler_a_gpu_falls_back_to_the_cpus_kernels_with_one_warning(monkeypatch):
    def missing(device):
        raise BuildError("no NVRTC found")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(library_cuda, "load", missing)
    device = torch.device("cuda", 0)
    gsplat_backend._failure.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"those of the CPU.*copied.*no NVRTC found") as caught:
        assert resolve_backend("auto", device) == "native"
        assert resolve_backend("auto", device, 4) == "native"
    assert len([w for w in caught if "NVRTC" in str(w.message)]) == 1
    gsplat_backend._failure.cache_clear()


def _of_version(version: str, images: str) -> types.ModuleType:
    """A gsplat that calls its images so."""
    fake = types.ModuleType("gsplat")
    fake.__version__ = version
    fake.isect_tiles = lambda means2d, radii, depths, tile_size, tile_width, tile_height: None
    names = {}
    exec(f"def isect_offset_encode(isect_ids, {images}, tile_width, tile_height): pass", names)
    fake.isect_offset_encode = names["isect_offset_encode"]
    rasterized = ", ".join(gsplat_rasterizer._NEEDED["rasterize_to_pixels"])
    exec(f"def rasterize_to_pixels({rasterized}): pass", names)
    fake.rasterize_to_pixels = names["rasterize_to_pixels"]
    return fake


@pytest.mark.parametrize(
    ("version", "images"),
    [("1.5.0", "n_cameras"), ("1.5.2", "n_cameras"), ("1.5.3", "n_images"), ("1.6.0", "n_images")],
)
def test_every_gsplat_from_1_5_on_is_taken(version, images, monkeypatch):
    """Before 1.5.3 it called images cameras."""
    monkeypatch.setitem(sys.modules, "gsplat", _of_version(version, images))
    assert len(gsplat_rasterizer.gsplat_functions()) == 3


def test_a_gsplat_whose_boxes_have_one_side_is_too_old(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", _of_version("1.4.0", "n_cameras"))
    with pytest.raises(GsplatError, match=r"gsplat 1\.4\.0 is too old; install gsplat 1\.5"):
        gsplat_rasterizer.gsplat_functions()


def test_a_gsplat_without_a_function_is_named_with_what_to_install(monkeypatch):
    fake = types.ModuleType("gsplat")
    fake.__version__ = "1.5.1"
    fake.isect_tiles = lambda means2d, radii, depths, tile_size, tile_width, tile_height: None
    fake.isect_offset_encode = lambda isect_ids, n_scenes, tile_width, tile_height: None
    monkeypatch.setitem(sys.modules, "gsplat", fake)
    with pytest.raises(
        GsplatError, match=r"gsplat 1\.5\.1 has no isect_offset_encode\(n_images or n_cameras\).*WITHOUT_GSPLAT"
    ):
        gsplat_rasterizer.gsplat_functions()


def test_a_gsplat_without_a_compiled_part_says_what_it_needs(monkeypatch):
    """Without a toolkit its ``_C`` is None, and every call an AttributeError."""
    fake = types.ModuleType("gsplat")

    def isect_tiles(means2d, radii, depths, tile_size, tile_width, tile_height):
        raise AttributeError("'NoneType' object has no attribute 'intersect_tile'")

    fake.isect_tiles = isect_tiles
    fake.isect_offset_encode = lambda isect_ids, n_images, tile_width, tile_height: None
    fake.rasterize_to_pixels = gsplat_on_cpu._rasterize_to_pixels
    monkeypatch.setitem(sys.modules, "gsplat", fake)
    monkeypatch.setattr(gsplat_rasterizer, "_NEEDED", dict.fromkeys(gsplat_rasterizer._NEEDED, ()))
    with pytest.raises(GsplatError, match=r"does not run on cpu \(AttributeError.*intersect_tile.*nvcc"):
        gsplat_rasterizer.working_gsplat(torch.device("cpu"))


def test_a_gsplat_that_knows_ellipses_is_given_them(monkeypatch):
    """From 1.6 on it leaves out tiles that a splat's box touches and its ellipse does not."""
    fake = types.ModuleType("gsplat")
    fake.isect_offset_encode = fake.rasterize_to_pixels = lambda: None
    monkeypatch.setitem(sys.modules, "gsplat", fake)
    monkeypatch.setattr(gsplat_rasterizer, "_NEEDED", dict.fromkeys(gsplat_rasterizer._NEEDED, ()))
    fake.isect_tiles = lambda means2d, conics=None, opacities=None: (means2d, conics, opacities)
    assert gsplat_rasterizer.gsplat_functions()[0](1, conics=2, opacities=3) == (1, 2, 3)
    fake.isect_tiles = lambda means2d: (means2d,)
    assert gsplat_rasterizer.gsplat_functions()[0](1, conics=2, opacities=3) == (1,)


def test_the_installed_gsplat_has_what_we_call():
    pytest.importorskip("gsplat")
    assert [f.__name__ for f in gsplat_rasterizer.gsplat_functions()] == [
        "isect_tiles",
        "isect_offset_encode",
        "rasterize_to_pixels",
    ]


def test_the_layer_finds_the_same_scene_and_gradient_as_on_the_oracle(gsplat_on_cpu_backend):
    given, views = refinable_scene(gaussians=6, views=1, size=(8, 8), degree=0)
    found = []
    for backend in (gsplat_on_cpu_backend, "torch"):
        scene = given.map(lambda t: t.clone().requires_grad_())
        refined, info = TTOLayer(TTOConfig(inner_steps=2, backend=backend, stationarity_warning=None))(
            scene, views, 0.3
        )
        (refined.harmonics**2).sum().backward()
        found.append((info.energy, refined.means.detach(), *(t.grad for t in scene.tensors())))
    assert (found[0][0][-1] < found[0][0][0]).all()
    for ours, oracle in zip(*found, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=1e-6, atol=1e-8)
