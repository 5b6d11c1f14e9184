"""Each host's conventions in one place: our rendering through its adapter is the rendering of its own decoder.

The decoder is driven as the hosts drive theirs (``family_decoder``), on scenes and contexts shaped like each host's.
"""

from dataclasses import dataclass, field, replace

import host_stubs as stub
import pytest
import torch
from family_decoder import family_decoder, load_rasterizer

from diff3r_adapters.depthsplat import DepthSplat
from diff3r_adapters.mini_host import MiniHost
from diff3r_adapters.mvsplat import MVSplat
from diff3r_adapters.noposplat import NoPoSplat
from diff3r_adapters.pixelsplat import PixelSplat
from diff3r_adapters.transplat import TransPlat
from diff3r_plugin import TTOConfig, TTOLayer
from diff3r_plugin.plugin import HostAdapter
from diff3r_plugin.render import render

BEST_WEIGHTS = {"means": 0.01, "covariance": 0.01, "opacity": 0.01, "sh_dc": 0.1, "sh_rest": 0.1}


@dataclass(frozen=True)
class Host:
    """What is peculiar about the output and the context of one host."""

    adapter: type[HostAdapter]
    coefficients: int = 25
    per_pixel: int = 1
    intermediate: int = 0
    as_dict: bool = False
    image_range: tuple[float, float] = (0.0, 1.0)
    with_pose: bool = False
    scale_invariant: bool = True
    decoder: dict = field(default_factory=dict)

    def output(self, scenes: int, views: int):
        """What its encoder returns, and the part of it that is to be refined."""
        every = stub.host_gaussians((1 + self.intermediate) * scenes, self.per_pixel, self.coefficients, views=views)
        every.opacities /= self.per_pixel  # pixelSplat divides a probability among its samples
        last = replace(every, **{name: value[-scenes:] for name, value in vars(every).items()})
        return (
            {"gaussians": every, "depths": torch.rand(len(every.means), views, 6, 8)} if self.as_dict else every
        ), last

    def context(self, scenes: int, views: int) -> dict:
        return stub.context(self.image_range, scenes=scenes, views=views)

    def wrapper(self, **decoder):
        return stub.wrapper(**{**self.decoder, **decoder})


HOSTS = {
    "mini_host": Host(MiniHost, coefficients=4),
    "mvsplat": Host(MVSplat),
    "transplat": Host(TransPlat),
    "pixelsplat": Host(PixelSplat, per_pixel=3),
    "pixelsplat, deterministic": Host(PixelSplat),
    "depthsplat": Host(DepthSplat, coefficients=9, as_dict=True),
    "depthsplat, intermediate depths": Host(DepthSplat, coefficients=9, as_dict=True, intermediate=1),
    "depthsplat, bare": Host(DepthSplat, coefficients=9),
    "noposplat": Host(NoPoSplat, image_range=(-1.0, 1.0), with_pose=True, decoder={"make_scale_invariant": True}),
    "noposplat, not scale invariant": Host(
        NoPoSplat,
        image_range=(-1.0, 1.0),
        with_pose=True,
        scale_invariant=False,
        decoder={"make_scale_invariant": False},
    ),
}
EVERY_HOST = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)


@pytest.fixture(scope="module")
def rasterizer():
    return load_rasterizer()


def agreement(host, rasterizer, scenes, views, near=1.0, far=100.0, background=(0.0, 0.0, 0.0), nearer=0.0) -> float:
    """PSNR of our rendering of the context against the decoder's."""
    output, scene = host.output(scenes, views)
    scene.means[..., 2] -= nearer  # the output's own memory
    cameras = host.context(scenes, views)
    cameras["near"].fill_(near)
    cameras["far"].fill_(far)
    color = torch.tensor(background)
    theirs = family_decoder(
        rasterizer, scene, cameras, stub.H, stub.W, host.scale_invariant, host.with_pose, background=color
    )
    adapter = host.adapter()
    wrapper = host.wrapper(background_color=color)
    ours = render(adapter.gaussians(output, scenes), adapter.context_views(wrapper, cameras, output))
    assert theirs.std() > 0.02
    return float(-10 * (theirs - ours).square().mean().log10())


@EVERY_HOST
@pytest.mark.parametrize(("scenes", "views"), [(1, 2), (3, 2), (2, 3), (1, 6)])
def test_batches_and_numbers_of_views(host, rasterizer, scenes, views):
    assert agreement(host, rasterizer, scenes, views) > 80


@EVERY_HOST
def test_near_cuts_and_far_does_not(host, rasterizer):
    """The rasterizers drop what is nearer than 0.2 in the units they are given, and nothing for being far away."""
    near, nearer = (15.0, 0.0) if host.scale_invariant else (1.0, 3.5)
    cut, far = (0.2 * 15, 5.0) if host.scale_invariant else (0.2, 1.5)
    depths = host.output(2, 2)[1].means[..., 2] - nearer
    assert (depths < cut).float().mean() > 0.1 and (depths > far).float().mean() > 0.1
    assert agreement(host, rasterizer, 2, 2, near=near, far=far, nearer=nearer) > 80


@EVERY_HOST
def test_the_background_is_the_decoders(host, rasterizer):
    assert agreement(host, rasterizer, 1, 2, background=(0.2, 0.5, 0.9)) > 80


@EVERY_HOST
def test_images_come_back_in_their_range(host):
    context = host.context(2, 3)
    low, high = host.image_range
    views = host.adapter().context_views(host.wrapper(), context, None)
    assert torch.allclose(views.images, (context["image"] - low) / (high - low), atol=1e-6)
    assert views.images.min() < 0.05 and views.images.max() > 0.95


@EVERY_HOST
def test_harmonics_that_no_rasterizer_draws_are_neither_read_nor_changed(host):
    output, scene = host.output(2, 2)
    adapter = host.adapter()
    read = adapter.gaussians(output, 2)
    assert read.harmonics.shape[-1] == min(host.coefficients, 16)
    written = adapter.with_gaussians(output, read.map(lambda t: t * 0.5))
    after = adapter.scene(written).harmonics[-2:]
    assert after.shape == scene.harmonics.shape and torch.equal(after[..., 16:], scene.harmonics[..., 16:])
    assert torch.allclose(after[..., :16], 0.5 * scene.harmonics[..., :16], atol=1e-6)


@EVERY_HOST
def test_opacities_are_opacities_before_and_after(host):
    """They are activated by the host already (a sigmoid, or a share of a probability): taken and given as they are."""
    output, scene = host.output(2, 2)
    adapter = host.adapter()
    read = adapter.gaussians(output, 2)
    assert torch.equal(read.opacities, scene.opacities)
    views = adapter.context_views(host.wrapper(), host.context(2, 2), None)
    refined, info = TTOLayer(TTOConfig(inner_steps=2, stationarity_warning=None))(read, views, BEST_WEIGHTS)
    assert not info.fell_back.any()
    after = adapter.scene(adapter.with_gaussians(output, refined)).opacities[-2:]
    assert torch.equal(after, refined.opacities) and not torch.equal(after, scene.opacities)
    assert (after >= 0).all() and (after <= 1).all()


@EVERY_HOST
def test_order_is_view_row_column_sample(host):
    """What the head predicts for a pixel reaches that pixel's Gaussians."""
    scenes, views = 2, 3
    output, _ = host.output(scenes, views)
    adapter = host.adapter()
    scene = adapter.scene(output)
    n = views * stub.H * stub.W * host.per_pixel
    scene.opacities = (torch.arange(n) / n).expand(len(scene.opacities), n).clone()
    read = adapter.gaussians(output, scenes).opacities.reshape(scenes, views, stub.H, stub.W, host.per_pixel)
    assert read[0, 2, 3, 4, -1].item() * n == pytest.approx(
        ((2 * stub.H + 3) * stub.W + 4) * host.per_pixel + host.per_pixel - 1, abs=0.01
    )
