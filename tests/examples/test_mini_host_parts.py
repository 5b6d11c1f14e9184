"""Conventions inside the miniature host: cameras, harmonics, cropping, the plane sweep, the rasterizer's call."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import diff3r_plugin.drop_in
from diff3r_plugin.data import DataOptions, make_data

pytest.importorskip("lightning")

HOST = Path(__file__).parents[2] / "examples" / "mini_host"
RASTERIZER = Path(diff3r_plugin.drop_in.__file__).parent / "site"


@pytest.fixture(scope="module")
def host():
    """The host's modules. Every host's package is called ``src``, so it is taken out again afterwards."""
    for name in [n for n in sys.modules if n == "src" or n.startswith("src.")]:
        del sys.modules[name]
    sys.path[:0] = [str(HOST), str(RASTERIZER)]
    try:
        from src.dataset import dataset_re10k
        from src.dataset.shims import augmentation_shim, context_shim, crop_shim, patch_shim
        from src.dataset.view_sampler import view_sampler_bounded
        from src.evaluation import metrics
        from src.geometry import projection
        from src.loss import loss, loss_depth
        from src.model.decoder import cuda_splatting
        from src.model.encoder import encoder_planesweep, gaussian_adapter, spherical_harmonics
        from src.model.encoder.planesweep import cost_volume

        yield SimpleNamespace(
            augmentation=augmentation_shim,
            crop=crop_shim,
            dataset=dataset_re10k,
            patch=patch_shim,
            context=context_shim,
            bounded=view_sampler_bounded,
            loss=loss,
            loss_depth=loss_depth,
            metrics=metrics,
            projection=projection,
            splatting=cuda_splatting,
            encoder=encoder_planesweep,
            adapter=gaussian_adapter,
            harmonics=spherical_harmonics,
            cost_volume=cost_volume,
        )
    finally:
        sys.path[:] = [p for p in sys.path if p not in (str(HOST), str(RASTERIZER))]
        for name in [n for n in sys.modules if n == "src" or n.startswith("src.")]:
            del sys.modules[name]


def camera(focal: float = 1.0) -> torch.Tensor:
    return torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1.0]])


def rotation(seed: int) -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)))
    return q * torch.linalg.det(q)


def test_rasterizer_puts_a_point_where_the_camera_model_does(host):
    pose = torch.eye(4)
    pose[:3, :3] = rotation(0)
    pose[:3, 3] = torch.tensor([0.4, -1.0, 2.0])
    point = pose @ torch.tensor([0.6, -0.3, 3.0, 1.0])  # in camera coordinates: x / z = 0.2, y / z = -0.1
    image = host.splatting.render_cuda(
        pose[None], camera(1.2)[None], torch.tensor([0.5]), torch.tensor([50.0]), (32, 32), torch.zeros(1, 3),
        point[None, None, :3], 1e-4 * torch.eye(3)[None, None], torch.ones(1, 1, 3, 1), torch.ones(1, 1),
    )  # fmt: skip
    weight = image[0, 0] / image[0, 0].sum()
    centers = torch.arange(32) + 0.5
    assert (weight.sum(0) * centers).sum().item() == pytest.approx((0.2 * 1.2 + 0.5) * 32, abs=0.05)
    assert (weight.sum(1) * centers).sum().item() == pytest.approx((-0.1 * 1.2 + 0.5) * 32, abs=0.05)


def test_depth_maps_are_metric(host):
    points = torch.tensor([[[0.0, 0.0, 4.0]]])
    depth = host.splatting.render_depth_cuda(
        torch.eye(4)[None], camera()[None], torch.tensor([0.5]), torch.tensor([50.0]), (9, 9),
        points, 4.0 * torch.eye(3)[None, None], torch.ones(1, 1),
    )  # fmt: skip
    assert depth[0, 4, 4].item() == pytest.approx(0.99 * 4.0, rel=1e-3)  # alpha is capped at 0.99


@pytest.mark.parametrize("degree", [1, 2])
def test_rotated_harmonics_have_the_rotated_colors(host, degree):
    turn = rotation(1)
    coefficients = torch.randn(5, 3, (degree + 1) ** 2)
    directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
    turned = host.harmonics.rotate_harmonics(coefficients, turn)

    def color(c, d):
        return (c * host.harmonics.harmonics_basis(d, degree)[:, None]).sum(-1)

    torch.testing.assert_close(color(turned, directions @ turn.T), color(coefficients, directions), atol=1e-5, rtol=0)
    assert (color(coefficients, directions @ turn.T) - color(coefficients, directions)).abs().max() > 0.1


def test_harmonics_are_those_of_the_rasterizer(host):
    coefficients = 0.2 * torch.randn(1, 1, 3, 9)
    point = torch.tensor([[[0.5, -0.3, 2.0]]])
    image = host.splatting.render_cuda(
        torch.eye(4)[None], camera()[None], torch.tensor([0.5]), torch.tensor([50.0]), (16, 16), torch.zeros(1, 3),
        point, 4.0 * torch.eye(3)[None, None], coefficients, torch.ones(1, 1),
    )  # fmt: skip
    direction = torch.nn.functional.normalize(point[0, 0], dim=-1)
    color = ((coefficients[0, 0] * host.harmonics.harmonics_basis(direction, 2)).sum(-1) + 0.5).clamp_min(0)
    peak = image[0].amax((1, 2))
    torch.testing.assert_close(peak, 0.99 * color, rtol=2e-2, atol=1e-3)


def test_flipping_an_example_flips_what_its_cameras_see(host):
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation(2), torch.tensor([1.0, 2.0, 3.0])
    point = torch.tensor([0.3, -0.2, 2.0, 1.0])  # in camera coordinates
    mirrored_world = torch.diag(torch.tensor([-1.0, 1, 1, 1])) @ pose @ point
    seen = torch.linalg.inv(host.augmentation.reflect_extrinsics(pose)) @ mirrored_world
    torch.testing.assert_close(seen, torch.tensor([-0.3, -0.2, 2.0, 1.0]))


def test_cropping_keeps_rays_on_their_pixels(host):
    image = torch.arange(40 * 60, dtype=torch.float32).reshape(1, 1, 40, 60)
    cropped, intrinsics = host.crop.center_crop(image, camera(1.3)[None], (24, 24))
    row, column = 5, 17
    whole_xy = torch.tensor([(column + 18 + 0.5) / 60, (row + 8 + 0.5) / 40])
    part_xy = torch.tensor([(column + 0.5) / 24, (row + 0.5) / 24])
    assert cropped[0, 0, row, column] == image[0, 0, row + 8, column + 18]
    torch.testing.assert_close(
        host.projection.unproject(part_xy, intrinsics[0]), host.projection.unproject(whole_xy, camera(1.3))
    )


def test_plane_sweep_peaks_at_the_true_depth(host):
    """A fronto-parallel plane of random features, seen by two cameras side by side."""
    size, depth, baseline = 32, 4.0, 0.5
    depths = host.cost_volume.depth_candidates(torch.full((1, 2), 1.0), torch.full((1, 2), 100.0), 100)
    shift = baseline / depth * size  # 4 pixels: focal length 1
    texture = torch.nn.functional.normalize(torch.randn(16, size, size + 8), dim=0)
    views = torch.stack([texture[:, :, :size], texture[:, :, int(shift) : int(shift) + size]])[None]
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = baseline
    volumes, seen = host.cost_volume.build_cost_volumes((views,), poses, camera().expand(1, 2, 3, 3), depths)
    best = depths[0, 0][volumes[0, 0, 0].argmax(0)]
    interior = best[:, int(shift) :]  # the first columns of view 0 are out of sight of view 1
    assert ((1 / interior - 1 / depth).abs() < 0.015).float().mean() > 0.95
    assert seen[0, 0, 0, :, 0].max() == 0 and seen[0, 0, -1].min() == 1


def test_encoder_starts_from_the_pixels_colors_and_yields_valid_gaussians(host):
    cfg = host.encoder.EncoderPlaneSweepCfg(
        "planesweep", 16, 8, 8, 16, host.adapter.GaussianAdapterCfg(1, 0.25, 0.15, 4.0)
    )
    encoder = host.encoder.EncoderPlaneSweep(cfg)
    images = torch.rand(1, 2, 3, 16, 24)
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = 0.5
    context = {
        "image": images,
        "extrinsics": poses,
        "intrinsics": camera().expand(1, 2, 3, 3),
        "near": torch.full((1, 2), 1.0),
        "far": torch.full((1, 2), 20.0),
    }
    gaussians = encoder(context, 0)
    assert gaussians.means.shape == (1, 2 * 16 * 24, 3)
    color = gaussians.harmonics[..., 0] * host.adapter.C0 + 0.5
    expected = images.permute(0, 1, 3, 4, 2).reshape(1, -1, 3)  # in the order view, row, column
    torch.testing.assert_close(color, expected, atol=0.02, rtol=0)
    assert torch.linalg.eigvalsh(gaussians.covariances).min() > 0
    assert ((gaussians.opacities > 0) & (gaussians.opacities < 1)).all()
    assert (gaussians.means[..., 2] >= 1.0 - 1e-4).all() and (gaussians.means[..., 2] <= 20.0 + 1e-3).all()
    # Gaussians of the second view sit on its own rays, half a unit to the right.
    last = gaussians.means[0, -1]
    assert ((last[0] - 0.5) / last[2]).item() == pytest.approx(23.5 / 24 - 0.5, abs=0.03)


@pytest.mark.parametrize("views", [2, 3])
def test_bounded_sampler_keeps_its_bounds(host, views):
    cfg = host.bounded.ViewSamplerBoundedCfg("bounded", views, 4, 5, 9, 1)
    sampler = host.bounded.ViewSamplerBounded(cfg, "train")
    generator = torch.Generator().manual_seed(0)
    gaps = set()
    for _ in range(200):
        context, target = sampler.sample("scene", 20, generator)
        gaps.add(int(context[-1] - context[0]))
        assert len(context) == views and len(target) == 4
        assert context[0] >= 0 and context[-1] < 20
        assert (target > context[0]).all() and (target < context[-1]).all()
    assert gaps == set(range(5, 10))
    assert sampler.sample("scene", 5, generator) is None  # too short


def test_extra_context_views_come_in_training_only(host):
    cfg = host.bounded.ViewSamplerBoundedCfg("bounded", 2, 3, 5, 9, 1, extra_context_views=2)
    generator = torch.Generator().manual_seed(0)
    train, _ = host.bounded.ViewSamplerBounded(cfg, "train").sample("scene", 20, generator)
    val, _ = host.bounded.ViewSamplerBounded(cfg, "val").sample("scene", 20, generator)
    assert len(train) == 4 and len(val) == 2


def test_keeping_outer_views_keeps_what_belongs_together(host):
    context = {
        "image": torch.rand(2, 4, 3, 8, 8),
        "index": torch.arange(4).expand(2, 4),
        "depth": torch.rand(2, 4, 8, 8),
    }
    kept = host.context.keep_outer_views({"context": context, "scene": ["a", "b"]}, 2)
    assert kept["context"]["index"].tolist() == [[0, 3], [0, 3]] and kept["scene"] == ["a", "b"]
    assert torch.equal(kept["context"]["depth"][:, 1], context["depth"][:, 3])
    assert torch.equal(kept["context"]["image"][:, 1], context["image"][:, 3])
    with pytest.raises(ValueError, match="2 to 4 context views, not 5"):
        host.context.keep_outer_views({"context": context}, 5)


def test_depth_goes_with_its_pixels_through_flips_scaling_and_crops(host):
    """Depth painted into the image as well: whatever is done to both, they still agree."""
    depth = torch.rand(1, 40, 60).mul(4).round() / 4
    views = {"image": depth[:, None].expand(1, 3, 40, 60), "depth": depth, "intrinsics": camera(1.3)[None]}
    flipped = host.augmentation.reflect_views({**views, "extrinsics": torch.eye(4)[None]})
    assert torch.equal(flipped["depth"], flipped["image"][:, 0])
    example = {"context": views, "target": views}
    cropped = host.crop.apply_crop_shim(example, (40, 36))["context"]
    assert torch.equal(cropped["depth"], cropped["image"][:, 0])
    coarse = {**views, "image": views["image"].repeat_interleave(2, -1).repeat_interleave(2, -2)}
    coarse["depth"] = coarse["image"][:, 0]
    halved = host.crop.apply_crop_shim({"context": coarse, "target": coarse}, (40, 60))["context"]
    assert torch.equal(halved["depth"], depth)
    batch = {"context": {k: v[None] for k, v in views.items()}, "target": {k: v[None] for k, v in views.items()}}
    patched = host.patch.apply_patch_shim(batch, 16)["context"]
    assert patched["depth"].shape[-2:] == (32, 48) and torch.equal(patched["depth"], patched["image"][:, :, 0])


def test_reader_corrupts_contexts_and_never_targets(host, tmp_path):
    options = {"train": 0, "val": 0, "test": 4, "frames": 6, "size": 16, "supersample": 1}
    make_data(tmp_path / "clean", DataOptions(**options), workers=1, progress=False)
    make_data(tmp_path / "corrupted", DataOptions(**options, outlier_share=0.5), workers=1, progress=False)

    class EveryFrameIsBoth:
        def sample(self, scene, frames, generator):
            return torch.arange(frames), torch.arange(frames)

    def examples(folder):
        cfg = SimpleNamespace(
            roots=[folder], splits={"test": "test"}, make_baseline_1=False, near=1.0, far=9.0, augment=False,
            image_shape=[16, 16],
        )  # fmt: skip
        tracker = SimpleNamespace(get_step=lambda: 0)
        return list(host.dataset.DatasetRE10k(cfg, "test", EveryFrameIsBoth(), tracker, seed=0))

    for corrupted, clean in zip(examples(tmp_path / "corrupted"), examples(tmp_path / "clean"), strict=True):
        for name in ("image", "extrinsics"):
            torch.testing.assert_close(corrupted["target"][name], clean["target"][name])
        touched = corrupted["context"]["corrupted"]
        changed = (corrupted["context"]["image"] - clean["context"]["image"]).abs().amax(1) > 0.25
        moved = (corrupted["context"]["extrinsics"] - clean["context"]["extrinsics"]).abs().amax((1, 2)) > 1e-3
        assert touched.flatten(1).any(1).sum() == 1 and not (changed & ~touched).any()
        assert not (moved & ~touched.flatten(1).any(1)).any()
        assert "corrupted" not in corrupted["target"] and "corrupted" not in clean["context"]


def test_depth_loss_is_zero_at_the_truth_and_the_log_ratio_away_from_it(host):
    depth = torch.rand(1, 2, 4, 6) * 3 + 1
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    for view in range(2):
        poses[0, view, :3, :3], poses[0, view, :3, 3] = rotation(view), torch.randn(3)
    xy = host.projection.sample_image_grid((4, 6), depth.device)
    rays = host.projection.unproject(xy, camera().expand(1, 2, 1, 1, 3, 3))
    loss = host.loss_depth.LossDepth(host.loss.LossCfg(weight=0.5))

    def value(scale: float) -> float:
        points = rays * (scale * depth)[..., None]
        world = torch.einsum("bvij,bvhwj->bvhwi", poses[..., :3, :3], points) + poses[..., None, None, :3, 3]
        gaussians = SimpleNamespace(means=world.reshape(1, -1, 3))
        context = {"depth": depth, "extrinsics": poses}
        return loss.compute(host.loss_depth.pixel_depths(gaussians, poses, (4, 6)), context["depth"]).item()

    assert value(1.0) == pytest.approx(0, abs=1e-5)
    assert value(1.25) == pytest.approx(math.log(1.25), rel=1e-4)


def test_convex_upsampling_follows_an_edge_that_interpolation_smears(host):
    coarse = torch.tensor([[0.0, 0, 1, 1]]).expand(1, 1, 4, 4)
    logits = torch.full((1, 9, 8, 8), -50.0)
    logits[:, 4] = 50.0  # every fine pixel takes the coarse one it lies in
    fine = host.encoder.upsample_convex(coarse, logits)
    torch.testing.assert_close(fine[0, 0, 0], torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1]))
    inside = host.encoder.upsample_convex(torch.rand(2, 1, 4, 4), torch.randn(2, 9, 8, 8))
    assert inside.shape == (2, 1, 8, 8) and ((inside >= 0) & (inside <= 1)).all()


def test_metrics_on_known_images(host):
    truth = torch.rand(2, 3, 24, 24) * 0.5 + 0.25
    torch.testing.assert_close(host.metrics.compute_psnr(truth, truth + 0.1), torch.full((2,), 20.0))
    torch.testing.assert_close(host.metrics.compute_ssim(truth, truth), torch.ones(2))
    assert host.metrics.compute_ssim(truth, torch.rand(2, 3, 24, 24)).max() < 0.3
