"""The drop-in renders what its interface promises: e3nn axes, the fixed near limit, depth and pose gradients."""

import importlib

import pytest
import torch

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.drop_in import SITE
from diff3r_plugin.drop_in.rasterizer import GaussianRasterizationSettings, GaussianRasterizer
from diff3r_plugin.render import render
from diff3r_plugin.render.spherical_harmonics import spherical_harmonics_basis

TAN = 0.5
H, W = 12, 16


def settings(camera_to_world=None, sh_degree=2, with_poses=False):
    c2w = torch.eye(4) if camera_to_world is None else camera_to_world
    view = c2w.inverse().T
    projection = torch.zeros(4, 4)
    projection[0, 0] = projection[1, 1] = 1 / TAN
    projection[2, 2], projection[2, 3], projection[3, 2] = 1.01, -1.01, 1
    return GaussianRasterizationSettings(
        image_height=H,
        image_width=W,
        tanfovx=torch.tensor(TAN),
        tanfovy=torch.tensor([TAN]),  # the family's orthographic images pass a tensor of one element
        bg=torch.tensor([0.1, 0.2, 0.3]),
        scale_modifier=1.0,
        viewmatrix=view,
        projmatrix=view @ projection.T,
        sh_degree=sh_degree,
        campos=c2w[:3, 3],
        prefiltered=False,
        debug=False,
        projmatrix_raw=projection.T if with_poses else None,
    )


def scene(n=20, coefficients=9):
    means = 0.5 * torch.randn(n, 3) + torch.tensor([0, 0, 3.0])
    factor = 0.15 * torch.randn(n, 3, 3)
    covariances = factor @ factor.mT + 1e-3 * torch.eye(3)
    row, column = torch.triu_indices(3, 3)
    return dict(
        means3D=means,
        means2D=torch.zeros_like(means),
        opacities=torch.rand(n, 1),
        shs=0.3 * torch.randn(n, coefficients, 3),
        cov3D_precomp=covariances[:, row, column],
    )


def unpacked(s):
    return s["cov3D_precomp"][:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(1, -1, 3, 3)


def views():
    intrinsics = torch.tensor([[W / (2 * TAN), 0, W / 2], [0, H / (2 * TAN), H / 2], [0, 0, 1]])
    return Views(
        torch.eye(4)[None, None], intrinsics[None, None], near=0.2, image_size=(H, W), background=(0.1, 0.2, 0.3)
    )


def test_is_found_under_the_name_that_hosts_import(monkeypatch):
    monkeypatch.syspath_prepend(str(SITE))
    module = importlib.import_module("diff_gaussian_rasterization")
    assert module.GaussianRasterizer is GaussianRasterizer


@pytest.mark.parametrize("with_poses", [False, True])
def test_colors_follow_the_axis_order_of_the_dialect(with_poses):
    s = scene()
    color = GaussianRasterizer(settings(with_poses=with_poses))(**s)[0]
    directions = s["means3D"] / s["means3D"].norm(dim=-1, keepdim=True)
    if not with_poses:
        directions = directions[:, [2, 0, 1]]
    colors = torch.einsum("nk,nkc->nc", spherical_harmonics_basis(directions, 2), s["shs"])
    plain = (colors.clamp_min(-0.5) / 0.28209479177387814)[..., None]
    reference = Gaussians(s["means3D"][None], unpacked(s), s["opacities"].T, plain[None])
    torch.testing.assert_close(color, render(reference, views())[0, 0], rtol=1e-4, atol=1e-4)


def test_degrees_above_three_and_above_the_settings_are_ignored():
    s = scene(coefficients=25)
    s["shs"][:, 9:16] = 0
    everything = GaussianRasterizer(settings(sh_degree=4))(**s)[0]
    s["shs"] = s["shs"][:, :16]
    torch.testing.assert_close(GaussianRasterizer(settings(sh_degree=3))(**s)[0], everything)
    torch.testing.assert_close(GaussianRasterizer(settings(sh_degree=2))(**s)[0], everything)


def test_plain_colors_may_be_negative_or_above_one():
    s = scene()
    del s["shs"]
    colors = 3 * torch.randn(20, 3)
    image = GaussianRasterizer(settings())(**s, colors_precomp=colors)[0]
    # Linear in the colors: half of one palette and half of the other is the mean of both images.
    other = GaussianRasterizer(settings())(**s, colors_precomp=-colors)[0]
    neither = GaussianRasterizer(settings())(**s, colors_precomp=torch.zeros_like(colors))[0]
    torch.testing.assert_close(0.5 * (image + other), neither, rtol=1e-4, atol=1e-5)
    assert image.min() < 0


def test_scales_and_rotations_are_wxyz():
    s = scene()
    scales, turn = 0.05 + 0.2 * torch.rand(20, 3), torch.tensor([0.5**0.5, 0, 0, 0.5**0.5]).expand(20, 4)
    packed = s.pop("cov3D_precomp")
    color, _ = GaussianRasterizer(settings())(**s, scales=scales, rotations=turn)
    s["cov3D_precomp"] = torch.zeros_like(packed)
    for entry, axis in ((0, 1), (3, 0), (5, 2)):  # a quarter turn about z swaps x and y
        s["cov3D_precomp"][:, entry] = scales[:, axis] ** 2
    torch.testing.assert_close(color, GaussianRasterizer(settings())(**s)[0], rtol=1e-4, atol=1e-5)


def test_near_limit_and_radii():
    s = scene()
    s["means3D"][0] = torch.tensor([0, 0, 0.19])
    s["means3D"][1] = torch.tensor([0, 0, 2.0])
    s["cov3D_precomp"][1] = torch.tensor([0.01, 0, 0, 0.01, 0, 0.01])
    rasterizer = GaussianRasterizer(settings())
    _, radii = rasterizer(**s)
    assert radii.dtype == torch.int32 and radii[0] == 0
    focal = W / (2 * TAN)
    assert radii[1] == int(3 * ((0.1 * focal / 2.0) ** 2 + 0.3) ** 0.5) + 1
    assert rasterizer.markVisible(s["means3D"])[:2].tolist() == [False, True]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_dialect_with_poses_returns_depth_opacity_and_pose_gradients(double):
    s = scene()
    theta, rho = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    color, radii, depth, opacity, touched = GaussianRasterizer(settings(with_poses=True))(**s, theta=theta, rho=rho)
    assert depth.shape == (1, H, W) and opacity.shape == (1, H, W) and touched.shape == radii.shape
    background = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    white = {**s, "shs": None, "colors_precomp": torch.ones(20, 3)}
    over_black = GaussianRasterizer(settings(with_poses=True))(**white)[0] - (1 - opacity) * background
    torch.testing.assert_close(over_black, opacity.expand(3, H, W), rtol=1e-4, atol=1e-5)
    assert (depth <= 10 * opacity + 1e-4).all() and depth.max() > 1

    weights = torch.randn_like(color)
    gradients = torch.autograd.grad((weights * color).sum() + depth.sum(), [theta, rho])

    def loss(axis, step, rotate):
        change = torch.zeros(4, 4)
        if rotate:
            i, j = (axis + 1) % 3, (axis + 2) % 3
            change[j, i], change[i, j] = step, -step
        else:
            change[axis, 3] = step
        moved = torch.linalg.matrix_exp(change).inverse()
        color, _, depth, _, _ = GaussianRasterizer(settings(moved, with_poses=True))(**s)
        return (weights * color).sum() + depth.sum()

    for axis in range(3):
        for gradient, rotate in ((gradients[0], True), (gradients[1], False)):
            numeric = (loss(axis, 1e-6, rotate) - loss(axis, -1e-6, rotate)) / 2e-6
            torch.testing.assert_close(gradient[axis], numeric, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "change", [dict(shs=None), dict(colors_precomp=torch.zeros(20, 3)), dict(scales=torch.ones(20, 3))]
)
def test_contradictory_calls_are_refused(change):
    with pytest.raises(ValueError, match="exactly one"):
        GaussianRasterizer(settings())(**{**scene(), **change})
