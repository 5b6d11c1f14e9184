"""The head for Gaussians that stand on no grid."""

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import Gaussians, TTOConfig, TTOLayer
from diff3r_plugin.heads.projected import ProjectedHead
from diff3r_plugin.render import render

GROUPS = ("means", "covariance", "opacity", "sh_dc", "sh_rest", "poses")
N, V, H, W = 37, 3, 10, 12


def unaligned(batch=2, views=V):
    return random_scene(batch=batch, gaussians=N, views=views, size=(H, W), dtype=torch.float32)


def trained(groups=("means", "opacity"), **options):
    """A head that answers with its inputs, as one does after some training."""
    torch.manual_seed(0)
    head = ProjectedHead(groups, **options)
    torch.nn.init.normal_(head.layers[-1].weight)
    return head


@pytest.mark.parametrize("channels", [0, 5])
def test_starts_at_the_given_weights_everywhere(channels):
    scene, views = unaligned()
    start = {"means": 0.5, "covariance": 2.0, "opacity": 0.1, "sh_dc": 3.0, "sh_rest": 0.7, "poses": 9.0}
    features = torch.randn(2, V, channels, 4, 5) if channels else None
    weights = ProjectedHead(GROUPS, feature_channels=channels, initial_weights=start)(scene, views, features)
    for group, value in start.items():
        tensor = getattr(weights, group)
        assert tensor.shape == (2, V if group == "poses" else N, 1)
        torch.testing.assert_close(tensor, torch.full_like(tensor, value))
    weights = ProjectedHead(GROUPS)(scene, views)
    assert weights.means.unique().item() == pytest.approx(0.01) and weights.sh_dc.unique().item() == pytest.approx(0.1)


def test_weights_go_with_the_gaussians_in_whatever_order_they_come():
    scene, views = unaligned()
    features = torch.randn(2, V, 3, H, W)
    head, order = trained(feature_channels=3), torch.randperm(N)
    there = head(scene, views, features).tensors()
    turned = head(scene.map(lambda t: t[:, order]), views, features).tensors()
    for group in there:
        assert there[group].std() > 1e-3
        torch.testing.assert_close(turned[group], there[group][:, order], rtol=1e-4, atol=1e-5)


def test_views_that_do_not_see_a_gaussian_do_not_matter():
    scene, views = unaligned()
    features = torch.randn(2, V, 3, H, W)
    head = trained(feature_channels=3)
    away = views.world_to_camera.clone()
    away[:, -1] = torch.diag(torch.tensor([-1.0, 1, -1, 1]))  # the last view looks the other way
    away[:, -1, 2, 3] = -100
    facing = views.replace(world_to_camera=away)
    two = facing.map(lambda t: t[:, :-1] if t.ndim > 1 else t)
    for group, weights in head(scene, two, features[:, :-1]).tensors().items():
        torch.testing.assert_close(head(scene, facing, features).tensors()[group], weights)
    other = facing.replace(images=torch.cat([facing.images[:, :-1], torch.rand(2, 1, 3, H, W)], 1))
    changed = torch.cat([features[:, :-1], torch.randn(2, 1, 3, H, W)], 1)
    torch.testing.assert_close(head(scene, other, changed).means, head(scene, facing, features).means)


def test_padding_changes_no_weight_and_gets_a_usable_one():
    scene, views = unaligned()
    head = trained()
    empty = scene.map(lambda t: torch.zeros_like(t[:, :5]))
    empty.means.fill_(-1e4)
    weights = head(scene, views).means
    both = Gaussians(*(torch.cat(pair, 1) for pair in zip(parts(scene), parts(empty), strict=True)))
    padded = head(both, views).means
    torch.testing.assert_close(padded[:, :N], weights, rtol=1e-4, atol=1e-5)
    assert padded.isfinite().all() and (padded > 0).all()


def parts(scene):
    return scene.means, scene.covariances, scene.opacities, scene.harmonics


def test_it_looks_where_a_gaussian_projects():
    scene, views = unaligned(batch=1, views=1)
    points = scene.means[0] @ views.world_to_camera[0, 0, :3, :3].mT + views.world_to_camera[0, 0, :3, 3]
    pixels = points @ views.intrinsics[0, 0].mT
    pixels = pixels[:, :2] / pixels[:, 2:]
    middle = (pixels - torch.tensor([W / 2, H / 2])).norm(dim=-1).argmin()
    column, row = pixels[middle].floor().int().tolist()
    feature = torch.zeros(1, 1, 1, H, W)
    feature[..., row, column] = 1.0
    head = trained(feature_channels=1)
    changed = (head(scene, views, feature).means - head(scene, views, 0 * feature).means)[0, :, 0].abs() > 1e-7
    near = ((pixels - torch.tensor([column + 0.5, row + 0.5])).abs() < 1).all(-1) & (points[:, 2] > 0)
    assert near[middle] and not near.all() and torch.equal(changed, near)


def test_gradient_reaches_the_base_and_the_last_layer_but_neither_scene_nor_features():
    scene, views = unaligned()
    scene = scene.map(lambda t: t.requires_grad_())
    features = torch.randn(2, V, 4, H, W, requires_grad=True)
    head = ProjectedHead(GROUPS[:-1], feature_channels=4)
    layer = TTOLayer(TTOConfig(inner_steps=2, stationarity_warning=None))
    refined, _ = layer(scene.detach(), views, head(scene, views, features))
    ((render(refined, views) - 0.5) ** 2).sum().backward()
    assert head.log_base.grad.abs().min() > 0 and head.layers[-1].weight.grad.abs().sum() > 0
    assert features.grad is None and scene.means.grad is None


def test_a_broken_scene_gets_finite_weights_and_leaves_the_others_theirs():
    scene, views = unaligned()
    head = trained()
    whole = head(scene, views).means[1]
    scene.means[0, 0] = float("nan")
    weights = head(scene, views).means
    assert weights.isfinite().all() and (weights > 0).all()
    torch.testing.assert_close(weights[1], whole)


def test_features_of_another_width_are_named():
    with pytest.raises(ValueError, match="0 feature channels, got 4"):
        ProjectedHead(("means",))(*unaligned(), torch.zeros(2, V, 4, H, W))
