"""Every product of a backend against the oracle, and the identities that hold between products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.scenes import (
    DEGENERATE,
    clear_scene,
    float32_scene,
    float32_tangent,
    random_camera_tangent,
    smooth_scene,
)
from benchmarks.random_scenes import moved
from diff3r_plugin import Gaussians, Views
from diff3r_plugin import render as rendering
from diff3r_plugin.render import Linearization, torch_backend

# Relative errors in the Euclidean norm. float32 has 6e-8; what makes it more:
EXACT = 1e-4
"""On scenes that are clear of all thresholds. The native backend in float32 is within 2e-6 there; gsplat is compiled
with fast mathematics (approximate exp, division and square root), which deserves more room. Wrong formulas are off by
1e-2 and more."""

CROSSING = 1e-2
"""On larger scenes, where a float32 alpha may fall on the other side of 1/255 than the float64 one: a pixel then moves
by up to 1/255 of a color and its derivatives by as little, for a handful of pairs among a million."""

IDENTITY = 1e-4
"""Adjointness and symmetry: both sides see the same float32 splats, but a backward pass may get its transmittances by
dividing, which loses some 1e-7 at each of a hundred splats."""

DIFFERENCE = 1e-3
"""JVP against five-point differences of float32 renderings: rounding of 1e-7 over steps of 0.02."""

SHAPES: tuple[dict[str, Any], ...] = (
    dict(batch=1, gaussians=12, views=2, size=(12, 16), degree=1),
    dict(batch=3, gaussians=9, views=1, size=(17, 19), degree=0),
    dict(batch=2, gaussians=7, views=3, size=(8, 33), degree=3),
    dict(batch=1, gaussians=5, views=1, size=(1, 1), degree=2),
    dict(batch=1, gaussians=6, views=2, size=(16, 16), degree=4),
    dict(batch=2, gaussians=10, views=2, size=(35, 50), degree=2),
)


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: What is compared.
        case: On which scene.
        error: The larger, the worse; None where the check is a plain yes or no.
        limit: What the error may be; None where it is recorded only.
        passed: None for what is only recorded or cannot be checked here.
        note: Anything to know.
    """

    name: str
    case: str
    error: float | None
    limit: float | None
    passed: bool | None
    note: str = ""

    @classmethod
    def of(cls, name: str, case: str, error: float, limit: float, note: str = "") -> Check:
        """Passed if the error is a number within the limit (a NaN is not)."""
        return cls(name, case, float(error), limit, bool(error <= limit), note)

    @classmethod
    def that(cls, name: str, case: str, truth: bool, note: str = "") -> Check:
        """A plain yes or no."""
        return cls(name, case, None, None, bool(truth), note)

    @classmethod
    def skipped(cls, name: str, case: str, why: str) -> Check:
        """What cannot be checked here."""
        return cls(name, case, None, None, None, why)


@dataclass(frozen=True)
class Subject:
    """The backend under test: float32 on a device, driven through the public functions.

    Args:
        backend: Its name.
        device: Where.
        function: ``render.linearize``, or a replacement of it.
    """

    backend: str
    device: torch.device
    function: Callable[..., Linearization] = rendering.linearize

    def linearize(self, scene: Gaussians, views: Views) -> Linearization:
        """Of a float64 scene on the CPU, moved and rounded."""
        return self.function(self.put(scene), self.put(views), self.backend)

    def put(self, value):
        """A tensor, Gaussians or Views on the device in float32."""
        return value.to(self.device, torch.float32)


def relative(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖ in float64; NaN if either holds one."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    if found.shape != expected.shape:
        return float("inf")
    if not expected.numel():
        return 0.0
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def relative_scenes(found: Gaussians, expected: Gaussians) -> float:
    """The worst of the tensors."""
    return max(relative(a, b) for a, b in zip(found.tensors(), expected.tensors(), strict=True))


def inner(a: Gaussians, b: Gaussians) -> float:
    """⟨a, b⟩ over all tensors, summed in float64."""
    pairs = zip(a.tensors(), b.tensors(), strict=True)
    return sum(float((x.double().cpu() * y.double().cpu()).sum()) for x, y in pairs)


def norm(a: Gaussians) -> float:
    """√⟨a, a⟩."""
    return inner(a, a) ** 0.5


def all_products(tested: Subject, scene: Gaussians, views: Views, case: str, limit: float) -> Iterator[Check]:
    """Image, J v without and with moving cameras, Jᵀ u without and with cameras, JᵀWJ v and Gram matrices."""
    ours, oracle = tested.linearize(scene, views), torch_backend.linearize(scene, views)
    tangent, cameras = float32_tangent(scene), random_camera_tangent(views)
    generator = torch.Generator().manual_seed(5)
    cotangent = torch.randn(oracle.image.shape, generator=generator).double()
    weights = torch.rand(oracle.image[:, :, 0].shape, generator=generator).double()
    put = tested.put

    yield Check.of("image", case, relative(ours.image, oracle.image), limit)
    yield Check.of("jvp", case, relative(ours.jvp(put(tangent)), oracle.jvp(tangent)), limit)
    found, expected = ours.jvp(put(tangent), put(cameras)), oracle.jvp(tangent, cameras)
    yield Check.of("jvp with cameras", case, relative(found, expected), limit)
    oracle_scene, oracle_cameras = oracle.vjp_cameras(cotangent)
    yield Check.of("vjp", case, relative_scenes(ours.vjp(put(cotangent)), oracle_scene), limit)
    our_scene, our_cameras = ours.vjp_cameras(put(cotangent))
    yield Check.of("vjp_cameras, scene", case, relative_scenes(our_scene, oracle_scene), limit)
    yield Check.of("vjp_cameras, cameras", case, relative(our_cameras, oracle_cameras), limit)
    product, expected_product = (
        ours.gauss_newton_product(put(tangent), put(weights)),
        oracle.gauss_newton_product(tangent, weights),
    )
    yield Check.of("gauss_newton_product", case, relative_scenes(product, expected_product), limit)
    ours_gram, oracle_gram = ours.gram(put(weights)), oracle.gram(weights)
    yield Check.of("gram, core", case, relative(ours_gram.core, oracle_gram.core), limit)
    yield Check.of("gram, sh_rest", case, relative(ours_gram.sh_rest, oracle_gram.sh_rest), limit)


def check_random_scenes(tested: Subject) -> Iterator[Check]:
    """Batches 1 to 3, SH degrees 0 to 4, images whose sides are no multiples of 16."""
    for shape in SHAPES:
        case = "{batch} scenes, {gaussians} Gaussians, {views} views, {size[0]}x{size[1]}, degree {degree}"
        yield from all_products(tested, *clear_scene(**shape), case.format(**shape), EXACT)


def check_larger_scene(tested: Subject) -> Iterator[Check]:
    """Several tiles, long lists, rays that end; some alphas fall on the other side of a threshold."""
    scene, views = float32_scene(gaussians=250, views=1, size=(45, 70), degree=1, seed=3, spread=0.7)
    yield from all_products(tested, scene, views, "250 Gaussians, 45x70", CROSSING)


def check_degenerate_scenes(tested: Subject) -> Iterator[Check]:
    """One Gaussian of each scene cannot be seen: nothing of it may reach the others, and it gets no gradient.

    That a transparent one gets none either is what skipping alphas below 1/255 means.
    """
    for case, change in DEGENERATE.items():
        scene, views = clear_scene(change, batch=2, gaussians=8)
        yield from all_products(tested, scene, views, case, EXACT)
        lin = tested.linearize(scene, views)
        ones = torch.ones_like(lin.image)
        gradient, gram = lin.vjp(ones), lin.gram(ones[:, :, 0])
        finite = all(bool(t.isfinite().all()) for t in (*gradient.tensors(), gram.core, gram.sh_rest, lin.image))
        yield Check.that("everything finite", case, finite)
        if case != "beside the camera":  # which some of the views do see
            zero = all(bool((t[:, 0] == 0).all()) for t in (*gradient.tensors(), gram.core))
            yield Check.that("no gradient for what cannot be seen", case, zero)


def check_near_and_far(tested: Subject) -> Iterator[Check]:
    """Limits that differ from view to view."""
    scene, views = clear_scene(gaussians=8, views=2)
    depths = scene.means[0] @ views.world_to_camera[0, :, 2, :3].mT + views.world_to_camera[0, :, 2, 3]
    ordered = depths.mT.sort(-1).values
    near = torch.stack([ordered[0, 1:3].mean(), ordered[1, 3:5].mean()])[None]
    far = torch.stack([ordered[0, 5:7].mean(), torch.tensor(1e10, dtype=torch.float64)])[None]
    limited = views.replace(near=near.float().double(), far=far.float().double())
    yield from all_products(tested, scene, limited, "near and far per view", EXACT)


def check_scales_and_quats(tested: Subject) -> Iterator[Check]:
    """Scenes given by scales and quaternions are rendered like those given by their covariances."""
    scene, views = float32_scene(size=(35, 50))
    generator = torch.Generator().manual_seed(5)
    scales = 0.05 + 0.2 * torch.rand(1, 12, 3, generator=generator).double()
    quats = torch.randn(1, 12, 4, generator=generator).double()
    by_scales = Gaussians.from_scales(scene.means, scales, quats, scene.opacities, scene.harmonics)
    found = tested.linearize(by_scales, views).image
    expected = torch_backend.linearize(by_scales.with_covariances(), views).image
    yield Check.of("image", "scales and quats", relative(found, expected), CROSSING)


def check_nothing_to_draw(tested: Subject) -> Iterator[Check]:
    """No scenes, no Gaussians, no views."""
    for batch, gaussians, views in ((0, 5, 2), (1, 0, 2), (2, 5, 0)):
        case = f"{batch} scenes, {gaussians} Gaussians, {views} views"
        scene, cameras = float32_scene(batch=batch, gaussians=gaussians, views=views)
        lin = tested.linearize(scene, cameras)
        image, gradient = (batch, views, 3, 12, 16), lin.vjp(torch.ones_like(lin.image))
        tangent = tested.put(float32_tangent(scene))
        product = lin.gauss_newton_product(tangent, torch.ones_like(lin.image[:, :, 0]))
        shapes = (
            lin.image.shape == image
            and lin.jvp(tangent).shape == image
            and all(a.shape == b.shape for a, b in zip(gradient.tensors(), scene.tensors(), strict=True))
            and all(a.shape == b.shape for a, b in zip(product.tensors(), scene.tensors(), strict=True))
            and lin.gram(torch.ones_like(lin.image[:, :, 0])).core.shape == (batch, gaussians, 13, 13)
        )
        background = tested.put(cameras).background[:, None, None]
        empty = gaussians > 0 or bool((lin.image == background).all())
        yield Check.that("shapes, zero gradients, background", case, shapes and empty and norm(gradient) == 0)


def check_identities(tested: Subject) -> Iterator[Check]:
    """⟨J v, u⟩ = ⟨v, Jᵀ u⟩, cameras included; JᵀWJ symmetric, positive and equal to its factors."""
    scene, views = float32_scene(batch=2, gaussians=120, size=(40, 56), degree=2)
    lin, a, b = tested.linearize(scene, views), *(tested.put(float32_tangent(scene, s)) for s in (1, 2))
    cameras = tested.put(random_camera_tangent(views))
    generator = torch.Generator().manual_seed(5)
    noise = tested.put(torch.randn(lin.image.shape, generator=generator))
    weights = tested.put(torch.rand(lin.image[:, :, 0].shape, generator=generator))
    push = lin.jvp(a, cameras)
    # Random vectors are nearly orthogonal, and a wrong factor would drown: u has to point along J v.
    u = push + 0.3 * push.norm() / noise.norm() * noise
    pull, pull_cameras = lin.vjp_cameras(u)
    forward = float((push.double() * u.double()).sum())
    backward = inner(pull, a) + float((pull_cameras.double() * cameras.double()).sum())
    case = "2 scenes, 120 Gaussians, 40x56"
    yield Check.of("adjointness", case, abs(forward - backward) / float(push.norm() * u.norm()), IDENTITY)
    Ha, Hb = lin.gauss_newton_product(a, weights), lin.gauss_newton_product(b, weights)
    yield Check.of("symmetry", case, abs(inner(Ha, b) - inner(Hb, a)) / (inner(Ha, a) * inner(Hb, b)) ** 0.5, IDENTITY)
    square = float((weights[:, :, None].double() * lin.jvp(a).double() ** 2).sum())
    yield Check.of("vᵀJᵀWJ v = ‖W½ J v‖²", case, abs(inner(Ha, a) - square) / square, IDENTITY)


def check_differences(tested: Subject) -> Iterator[Check]:
    """J v against five-point central differences of the backend's own renderings."""
    scene, views = smooth_scene()
    tangent, cameras, step = float32_tangent(scene), 0.3 * random_camera_tangent(views), 0.02
    own_size = Gaussians(0.1 * tangent.means, tangent.covariances, 0.1 * tangent.opacities, 0.3 * tangent.harmonics)

    def rendered(s: float) -> Tensor:
        placed = views.replace(world_to_camera=views.world_to_camera + s * cameras)
        return tested.linearize(moved(scene, own_size, s), placed).image.double()

    near, far = rendered(step) - rendered(-step), rendered(2 * step) - rendered(-2 * step)
    difference = (8 * near - far) / (12 * step)
    found = tested.linearize(scene, views).jvp(tested.put(own_size), tested.put(cameras))
    yield Check.of("jvp against differences", "smooth scene", relative(found, difference), DIFFERENCE)


PRODUCT_CHECKS = (
    check_random_scenes,
    check_degenerate_scenes,
    check_near_and_far,
    check_scales_and_quats,
    check_nothing_to_draw,
    check_identities,
    check_differences,
    check_larger_scene,
)
