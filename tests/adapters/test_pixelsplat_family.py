"""The family's conventions, checked against the drop-in rasteriser driven exactly as the hosts drive theirs."""

import importlib.util
import math
from pathlib import Path

import host_stubs as stub
import pytest
import torch

import diff3r_plugin
from diff3r_adapters.mvsplat import MVSplat
from diff3r_adapters.noposplat import NoPoSplat
from diff3r_adapters.pixelsplat_family import symmetric_intrinsics
from diff3r_plugin.render import render
from diff3r_plugin.render.spherical_harmonics import from_e3nn_order, spherical_harmonics_basis

SITE = Path(diff3r_plugin.__file__).parent / "drop_in" / "site" / "diff_gaussian_rasterization"


@pytest.fixture(scope="module")
def rasteriser():
    spec = importlib.util.spec_from_file_location("drop_in_under_test", SITE / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def family_decoder(rasteriser, scene, cameras, height, width, scale_invariant=True, with_pose=False):
    """Pictures of the cameras, by the calls that the hosts' `render_cuda` makes; [B, V, 3, H, W]."""
    pictures = []
    for b in range(stub.B):
        for v in range(stub.V):
            c2w, near = cameras["extrinsics"][b, v].clone(), cameras["near"][b, v]
            scale = 1 / near if scale_invariant else torch.tensor(1.0)
            c2w[:3, 3] *= scale
            far = cameras["far"][b, v] * scale
            inverse = cameras["intrinsics"][b, v].inverse()
            rays = {
                name: torch.nn.functional.normalize(inverse @ torch.tensor([*point, 1.0]), dim=0)
                for name, point in {"l": (0, 0.5), "r": (1, 0.5), "t": (0.5, 0), "b": (0.5, 1)}.items()
            }
            tan_x = math.tan(0.5 * math.acos(float(rays["l"] @ rays["r"])))
            tan_y = math.tan(0.5 * math.acos(float(rays["t"] @ rays["b"])))
            n = float(near * scale)
            projection = torch.zeros(4, 4)
            projection[0, 0], projection[1, 1] = 1 / tan_x, 1 / tan_y
            projection[2, 2], projection[2, 3], projection[3, 2] = far / (far - n), -(far * n) / (far - n), 1
            view = c2w.inverse().T
            options = {"projmatrix_raw": projection.T} if with_pose else {}
            settings = rasteriser.GaussianRasterizationSettings(
                image_height=height,
                image_width=width,
                tanfovx=tan_x,
                tanfovy=tan_y,
                bg=torch.zeros(3),
                scale_modifier=1.0,
                viewmatrix=view,
                projmatrix=view @ projection.T,
                **options,
                sh_degree=int(scene.harmonics.shape[-1] ** 0.5) - 1,
                campos=c2w[:3, 3],
                prefiltered=False,
                debug=False,
            )
            row, column = torch.triu_indices(3, 3)
            means = scene.means[b] * scale
            outcome = rasteriser.GaussianRasterizer(settings)(
                means3D=means,
                means2D=torch.zeros_like(means),
                shs=scene.harmonics[b].mT.contiguous(),
                opacities=scene.opacities[b][:, None],
                cov3D_precomp=(scene.covariances[b] * scale**2)[:, row, column],
            )
            pictures.append(outcome[0])
    return torch.stack(pictures).unflatten(0, (stub.B, stub.V))


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16, 25])
@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.4, 0.55)])
def test_our_picture_of_the_context_is_the_hosts(rasteriser, coefficients, centre):
    scene, cameras = stub.host_gaussians(coefficients=coefficients), stub.context(centre=centre)
    cameras["near"] = torch.full((stub.B, stub.V), 15.0)  # 0.2 * near cuts some Gaussians off
    assert (scene.means[..., 2] < 0.2 * 15).any() and (scene.means[..., 2] > 0.2 * 15).any()
    host = family_decoder(rasteriser, scene, cameras, stub.H, stub.W)
    adapter = MVSplat()
    views = adapter.context_views(stub.wrapper(), cameras)
    ours = render(adapter.gaussians(scene, stub.B), views)
    assert host.std() > 0.05
    assert -10 * (host - ours).square().mean().log10() > 80


def test_hosts_with_usual_harmonics_and_poses(rasteriser):
    scene, cameras = stub.host_gaussians(), stub.context(image_range=(-1.0, 1.0))
    host = family_decoder(rasteriser, scene, cameras, stub.H, stub.W, with_pose=True)
    adapter = NoPoSplat()
    views = adapter.context_views(stub.wrapper(make_scale_invariant=True), cameras)
    ours = render(adapter.gaussians(scene, stub.B), views)
    assert -10 * (host - ours).square().mean().log10() > 80


def test_the_near_cut_depends_on_the_decoders_switch():
    cameras = stub.context()
    cameras["near"] = torch.full((stub.B, stub.V), 3.0)
    with_switch = {
        switch: NoPoSplat().context_views(stub.wrapper(make_scale_invariant=switch), cameras).near[0, 0].item()
        for switch in (True, False)
    }
    assert with_switch == {True: pytest.approx(0.6), False: pytest.approx(0.2)}


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_e3nn_coefficients_give_the_same_colours(degree):
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    coefficients = torch.randn((degree + 1) ** 2, dtype=torch.float64)
    x, y, z = directions.unbind(-1)
    wanted = spherical_harmonics_basis(torch.stack([z, x, y], -1), degree) @ coefficients
    found = spherical_harmonics_basis(directions, degree) @ from_e3nn_order(coefficients)
    assert torch.allclose(wanted, found, atol=1e-12)


def test_a_centred_camera_is_an_ordinary_pinhole():
    normalised = torch.tensor([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]]).expand(1, 1, 3, 3)
    found = symmetric_intrinsics(normalised, height=30, width=40)[0, 0]
    wanted = torch.tensor([[0.8 * 40, 0, 20], [0, 1.1 * 30, 15], [0, 0, 1]])
    assert torch.allclose(found, wanted, rtol=1e-6)


def test_degrees_that_are_never_drawn_are_carried_through():
    scene, adapter = stub.host_gaussians(coefficients=25), MVSplat()
    refined = adapter.gaussians(scene, stub.B).map(lambda t: t * 2)
    assert refined.sh_degree == 3
    back = adapter.with_gaussians(scene, refined)
    assert torch.equal(back.harmonics[..., 16:], scene.harmonics[..., 16:])
    assert torch.allclose(back.harmonics[..., :16], 2 * scene.harmonics[..., :16], atol=1e-5)
