"""The uncertainty head: starts at its base everywhere, sees where the rendering is wrong, and learns."""

import pytest
import torch
from scenes import random_scene

from diff3r_plugin import TTOConfig, TTOLayer, UncertaintyHead
from diff3r_plugin.render import render

GROUPS = ("means", "covariance", "opacity", "sh_dc", "sh_rest")
H, W, V = 6, 8, 2


def pixel_aligned(batch=2, per_pixel=1, dtype=torch.float32):
    return random_scene(batch=batch, gaussians=V * H * W * per_pixel, views=V, size=(H, W), dtype=dtype)


@pytest.mark.parametrize("per_pixel", [1, 3])
@pytest.mark.parametrize("channels", [0, 5])
def test_starts_at_the_base_everywhere(per_pixel, channels):
    scene, views = pixel_aligned(per_pixel=per_pixel)
    start = dict(means=0.5, covariance=2.0, opacity=0.1, sh_dc=3.0, sh_rest=0.7)
    head = UncertaintyHead(GROUPS, feature_channels=channels, gaussians_per_pixel=per_pixel, initial_weights=start)
    features = torch.randn(2, V, channels, H // 2, W // 2) if channels else None
    weights = head(scene, views, features)
    for group, value in start.items():
        tensor = getattr(weights, group)
        assert tensor.shape == (2, scene.num_gaussians, 1)
        torch.testing.assert_close(tensor, torch.full_like(tensor, value))
    assert weights.poses is None


def test_the_border_is_seen_like_the_inside():
    """What surrounds a map must not look like an edge: zeros there gave every weight map a bright frame."""
    head = UncertaintyHead(GROUPS, feature_channels=3)
    torch.nn.init.normal_(head.layers[-1].weight)
    uniform = torch.rand(1, head.layers[0].in_channels, 1, 1).expand(-1, -1, H, W)
    changes = head.layers(uniform)
    torch.testing.assert_close(changes, changes[:, :, :1, :1].expand_as(changes))


def test_gradient_reaches_the_base_and_the_last_layer_but_neither_scene_nor_features():
    scene, views = pixel_aligned()
    scene = scene.map(lambda t: t.requires_grad_())
    features = torch.randn(2, V, 4, H, W, requires_grad=True)
    head = UncertaintyHead(GROUPS, feature_channels=4)
    refined, _ = TTOLayer(TTOConfig(inner_steps=2, stationarity_warning=None))(
        scene.detach(), views, head(scene, views, features)
    )
    ((render(refined, views) - 0.5) ** 2).sum().backward()
    assert head.log_base.grad.abs().min() > 0
    assert head.layers[-1].weight.grad.abs().sum() > 0
    assert features.grad is None and scene.means.grad is None


def test_weights_follow_the_pixel_that_predicted_the_gaussian():
    scene, views = pixel_aligned(batch=1, per_pixel=2)
    head = UncertaintyHead(("means",), gaussians_per_pixel=2)
    torch.nn.init.normal_(head.layers[-1].weight)
    before = head(scene, views).means
    image = views.images.clone()
    image[0, 1, :, 3, 4] = 1 - image[0, 1, :, 3, 4]
    changed = (head(scene, views.replace(images=image)).means - before)[0, :, 0].abs() > 1e-7
    where = changed.reshape(V, H, W, 2).any(-1)
    assert where[1, 3, 4] and not where[0].any()
    rows, columns = where[1].nonzero().T
    assert (rows - 3).abs().max() <= 2 and (columns - 4).abs().max() <= 2  # two 3 x 3 convolutions


def test_cross_view_inputs_let_one_view_hear_of_another():
    scene, views = pixel_aligned(batch=1)
    changed = {}
    for cross_view in (False, True):
        head = UncertaintyHead(("means",), cross_view=cross_view)
        torch.nn.init.normal_(head.layers[-1].weight)
        recolored = scene.map(lambda t: t.clone())
        recolored.harmonics[:, H * W :] *= 0.999  # of the second view: next to nothing in any rendering of the whole
        recolored.means[:, H * W :] += 100.0  # and out of everyone's sight
        own = slice(0, H * W)
        changed[cross_view] = (head(recolored, views).means[:, own] - head(scene, views).means[:, own]).abs().mean()
    assert changed[True] > changed[False]


def test_base_weights_learn_to_hold_what_should_not_move():
    scene, views = pixel_aligned(batch=1)
    head = UncertaintyHead(("sh_dc",), initial_weights={"sh_dc": 1.0})
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    layer = TTOLayer(TTOConfig(groups=("sh_dc",), inner_steps=2, stationarity_warning=None))
    target = render(scene, views).detach()  # the outer loss asks for no change at all
    for _ in range(10):
        refined, _ = layer(scene, views, head(scene, views))
        loss = ((render(refined, views) - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert head.base_weights()["sh_dc"] > 1.5


def test_broken_scenes_get_finite_weights():
    scene, views = pixel_aligned()
    scene.means[0, 0] = float("nan")
    head = UncertaintyHead(GROUPS)
    torch.nn.init.normal_(head.layers[-1].weight)
    for tensor in head(scene, views).tensors().values():
        assert tensor.isfinite().all() and (tensor > 0).all()


def test_what_does_not_fit_is_named():
    scene, views = pixel_aligned()
    with pytest.raises(ValueError, match=r"is 288, got 96"):
        UncertaintyHead(GROUPS, gaussians_per_pixel=3)(scene, views)
    with pytest.raises(ValueError, match="0 feature channels, got 4"):
        UncertaintyHead(GROUPS)(scene, views, torch.zeros(2, V, 4, H, W))
    with pytest.raises(ValueError, match="'color'"):
        UncertaintyHead(("color",))
    with pytest.raises(ValueError, match=r"'means': -1"):
        UncertaintyHead(("means",), initial_weights={"means": -1.0})


class TestGroupsOfWhichEachViewHasItsOwn:
    def head(self):
        return UncertaintyHead(("means", "poses", "exposure"), initial_weights={"poses": 7.0, "exposure": 3.0})

    def test_start_at_their_base_in_every_view(self):
        weights = self.head()(*pixel_aligned())
        torch.testing.assert_close(weights.poses, torch.full((2, V, 1), 7.0))
        torch.testing.assert_close(weights.exposure, torch.full((2, V, 1), 3.0))

    def test_can_doubt_one_view_and_hold_the_other(self):
        head = self.head()
        scene, views = pixel_aligned()
        images = views.images.clone()
        images[:, 1] = (1.6 * images[:, 1]).clamp(max=1)
        views = views.replace(images=images)
        optimizer = torch.optim.Adam(head.parameters(), 3e-3)
        for _ in range(60):
            weights = head(scene, views)
            loss = weights.exposure[:, 1].log().mean() - weights.exposure[:, 0].log().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights = head(scene, views).exposure
        assert (weights[:, 0] > 10 * weights[:, 1]).all()
        swapped = views.map(lambda t: t.flip(1) if t.ndim > 1 else t)
        n = scene.num_gaussians // 2
        other = scene.map(lambda t: torch.cat([t[:, n:], t[:, :n]], 1))
        torch.testing.assert_close(head(other, swapped).exposure, weights.flip(1))
