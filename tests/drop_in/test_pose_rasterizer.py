"""The drop-in for the rasterizer that takes scales, rotations and a differentiable view matrix."""

import importlib.util
from pathlib import Path

import pytest
import torch
from scenes import random_scene

import diff3r_plugin
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import render

SITE = Path(diff3r_plugin.__file__).parent / "drop_in" / "site" / "diff_gauss_pose" / "__init__.py"
H, W = 12, 16


@pytest.fixture(scope="module")
def package():
    """What ``import diff_gauss_pose`` gives a host when the drop-in is on the path."""
    spec = importlib.util.spec_from_file_location("diff_gauss_pose", SITE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scene():
    random, views = random_scene(gaussians=8, views=1, size=(H, W), dtype=torch.float32)
    generator = torch.Generator().manual_seed(2)
    quats = torch.nn.functional.normalize(torch.randn(1, 8, 4, generator=generator), dim=-1)
    scales = 0.05 + 0.2 * torch.rand(1, 8, 3, generator=generator)
    return Gaussians.from_scales(random.means, scales, quats, random.opacities, random.harmonics), views.world_to_camera


def rasterize(package, scene, world_to_camera):
    settings = package.GaussianRasterizationSettings(
        image_height=H,
        image_width=W,
        tanfovx=0.5,
        tanfovy=0.4,
        bg=torch.tensor([0.1, 0.2, 0.3]),
        scale_modifier=1.0,
        projmatrix=torch.eye(4),
        sh_degree=1,
        prefiltered=False,
        debug=False,
        enable_cov_grad=True,
        enable_sh_grad=True,
    )
    return package.GaussianRasterizer(settings)(
        means3D=scene.means[0],
        means2D=torch.zeros_like(scene.means[0]),
        shs=scene.harmonics[0].mT,
        colors_precomp=None,
        opacities=scene.opacities[0][:, None],
        scales=scene.scales[0],
        rotations=scene.quats[0],
        viewmatrix=world_to_camera[0, 0].mT,
    )


def views_of(world_to_camera):
    intrinsics = torch.tensor([[[[W / 1.0, 0, W / 2], [0, H / 0.8, H / 2], [0, 0, 1]]]])
    return Views(world_to_camera, intrinsics, near=0.2, image_size=(H, W), background=(0.1, 0.2, 0.3))


def test_it_renders_what_the_renderer_does_with_all_gradients(package, scene):
    gaussians, camera = scene
    found, wanted = (gaussians.map(lambda t: t.clone().requires_grad_()) for _ in range(2))
    cameras = [camera.clone().requires_grad_() for _ in range(2)]
    color, depth, normals, opacity, radii, extra = rasterize(package, found, cameras[0])
    reference = render(wanted, views_of(cameras[1]))[0, 0]
    torch.testing.assert_close(color, reference)
    (color.square().sum()).backward()
    (reference.square().sum()).backward()
    for one, other in zip((*found.tensors(), cameras[0]), (*wanted.tensors(), cameras[1]), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    assert cameras[0].grad.abs().sum() > 0
    assert depth.shape == opacity.shape == (1, H, W) and normals.shape == (3, H, W) and extra is None
    assert radii.shape == (8,) and 0 <= opacity.min() and opacity.max() <= 1


def test_a_view_matrix_is_needed(package, scene):
    gaussians, _ = scene
    with pytest.raises(ValueError, match="Give viewmatrix"):
        package.GaussianRasterizer(None)(gaussians.means[0], None, gaussians.opacities[0])
