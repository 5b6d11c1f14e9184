"""The family's conventions, checked against the drop-in rasterizer driven exactly as the hosts drive theirs."""

import host_stubs as stub
import pytest
import torch
from family_decoder import family_decoder, load_rasterizer

from diff3r_adapters.mvsplat import MVSplat
from diff3r_adapters.noposplat import NoPoSplat
from diff3r_adapters.pixelsplat_family import symmetric_intrinsics
from diff3r_plugin.render import render
from diff3r_plugin.render.spherical_harmonics import from_e3nn_order, spherical_harmonics_basis


@pytest.fixture(scope="module")
def rasterizer():
    return load_rasterizer()


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16, 25])
@pytest.mark.parametrize("center", [(0.5, 0.5), (0.4, 0.55)])
def test_our_rendering_of_the_context_is_the_hosts(rasterizer, coefficients, center):
    scene, cameras = stub.host_gaussians(coefficients=coefficients), stub.context(center=center)
    cameras["near"] = torch.full((stub.B, stub.V), 15.0)  # 0.2 * near cuts some Gaussians off
    assert (scene.means[..., 2] < 0.2 * 15).any() and (scene.means[..., 2] > 0.2 * 15).any()
    host = family_decoder(rasterizer, scene, cameras, stub.H, stub.W)
    adapter = MVSplat()
    views = adapter.context_views(stub.wrapper(), cameras, None)
    ours = render(adapter.gaussians(scene, stub.B), views)
    assert host.std() > 0.05
    assert -10 * (host - ours).square().mean().log10() > 80


def test_hosts_with_usual_harmonics_and_poses(rasterizer):
    scene, cameras = stub.host_gaussians(), stub.context(image_range=(-1.0, 1.0))
    host = family_decoder(rasterizer, scene, cameras, stub.H, stub.W, with_pose=True)
    adapter = NoPoSplat()
    views = adapter.context_views(stub.wrapper(make_scale_invariant=True), cameras, None)
    ours = render(adapter.gaussians(scene, stub.B), views)
    assert -10 * (host - ours).square().mean().log10() > 80


def test_the_near_cut_depends_on_the_decoders_switch():
    cameras = stub.context()
    cameras["near"] = torch.full((stub.B, stub.V), 3.0)
    with_switch = {
        switch: NoPoSplat().context_views(stub.wrapper(make_scale_invariant=switch), cameras, None).near[0, 0].item()
        for switch in (True, False)
    }
    assert with_switch == {True: pytest.approx(0.6), False: pytest.approx(0.2)}


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_e3nn_coefficients_give_the_same_colors(degree):
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    coefficients = torch.randn((degree + 1) ** 2, dtype=torch.float64)
    x, y, z = directions.unbind(-1)
    wanted = spherical_harmonics_basis(torch.stack([z, x, y], -1), degree) @ coefficients
    found = spherical_harmonics_basis(directions, degree) @ from_e3nn_order(coefficients)
    assert torch.allclose(wanted, found, atol=1e-12)


def test_a_centered_camera_is_an_ordinary_pinhole():
    normalized = torch.tensor([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]]).expand(1, 1, 3, 3)
    found = symmetric_intrinsics(normalized, height=30, width=40)[0, 0]
    wanted = torch.tensor([[0.8 * 40, 0, 20], [0, 1.1 * 30, 15], [0, 0, 1]])
    assert torch.allclose(found, wanted, rtol=1e-6)


def test_degrees_that_are_never_drawn_are_carried_through():
    scene, adapter = stub.host_gaussians(coefficients=25), MVSplat()
    refined = adapter.gaussians(scene, stub.B).map(lambda t: t * 2)
    assert refined.sh_degree == 3
    back = adapter.with_gaussians(scene, refined)
    assert torch.equal(back.harmonics[..., 16:], scene.harmonics[..., 16:])
    assert torch.allclose(back.harmonics[..., :16], 2 * scene.harmonics[..., :16], atol=1e-5)
