"""The confidence head: trusts everything at first, treats views alike, learns to leave out what corrupts a scene."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import random_scene

from diff3r_plugin import Outcome, TTOConfig, TTOLayer
from diff3r_plugin.heads.confidence import INITIAL, ConfidenceHead, silence_untrusted, supervision_loss
from diff3r_plugin.render import render

H, W = 6, 8


def scene(views=2, batch=2):
    return random_scene(batch=batch, gaussians=views * H * W, views=views, size=(H, W))


def disturbed(head):
    """A head whose last layers say something."""
    torch.nn.init.normal_(head.to_view.weight)
    torch.nn.init.normal_(head.to_pixel[-1].weight)
    return head


def test_the_border_is_seen_like_the_inside():
    head = ConfidenceHead()
    uniform = torch.rand(1, head.fine[0].in_channels, 1, 1).expand(-1, -1, H, W)
    fine = head.fine(uniform)
    for features in (fine, head.coarse(fine)):
        torch.testing.assert_close(features, features[:, :, :1, :1].expand_as(features))


@pytest.mark.parametrize("views", [2, 3, 8])
@pytest.mark.parametrize("channels", [0, 5])
def test_trusts_everything_alike_before_training(views, channels):
    features = torch.randn(2, views, channels, H // 2, W // 2) if channels else None
    confidence = ConfidenceHead(feature_channels=channels)(*scene(views), features)
    torch.testing.assert_close(confidence, torch.full((2, views, H, W), INITIAL))


def test_one_view_is_trusted_whole():
    confidence = disturbed(ConfidenceHead())(*scene(views=1))
    assert torch.equal(confidence, torch.ones(2, 1, H, W))


@settings(max_examples=5, deadline=None)
@given(views=st.integers(2, 5), seed=st.integers(0, 100))
def test_views_in_another_order_have_the_same_confidence(views, seed):
    torch.manual_seed(seed)
    gaussians, cameras = scene(views, batch=1)
    head = disturbed(ConfidenceHead()).double()
    order = torch.randperm(views)
    shuffled = gaussians.map(lambda t: t.unflatten(1, (views, -1))[:, order].flatten(1, 2))
    names = ("images", "world_to_camera", "intrinsics", "near", "far")
    turned = cameras.replace(**{name: getattr(cameras, name)[:, order] for name in names})
    torch.testing.assert_close(head(shuffled, turned), head(gaussians, cameras)[:, order], atol=1e-4, rtol=1e-3)


def test_a_view_can_be_left_out_and_a_pixel_too():
    head = ConfidenceHead()
    with torch.no_grad():
        head.to_view.bias.fill_(-12.0)
    assert head(*scene()).max() < 1e-5
    head = ConfidenceHead()
    with torch.no_grad():
        head.to_pixel[-1].bias.fill_(-15.0)
    assert head(*scene()).max() < 1e-5


def test_gradient_reaches_the_head_through_the_refined_scene():
    gaussians, views = scene()
    head = ConfidenceHead()
    layer = TTOLayer(TTOConfig(inner_steps=2, stationarity_warning=None))
    refined, _ = layer(gaussians, views, 0.1, head(gaussians, views))
    ((render(refined, views) - 0.5) ** 2).sum().backward()
    assert head.to_view.bias.grad.abs() > 0 and head.to_pixel[-1].weight.grad.abs().sum() > 0


def test_learns_from_the_refined_scene_alone_not_to_follow_a_corrupted_view():
    """One of two images is noise, the prediction has wrong colors, and the loss is on what the views really see.

    The noise must lose its say, and the good image must keep it: the colors are put right on it.
    """
    torch.manual_seed(0)
    gaussians, views = scene(batch=1)
    truth = render(gaussians, views).detach().clamp(0, 1)
    gaussians = gaussians.map(lambda t: t.clone())
    gaussians.harmonics[..., 0] += 0.5 * torch.randn_like(gaussians.harmonics[..., 0])
    images = truth.clone()
    images[:, 1] = torch.rand_like(images[:, 1])
    views = views.replace(images=images)
    head = ConfidenceHead(hidden=8)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    layer = TTOLayer(TTOConfig(inner_steps=2, stationarity_warning=None))
    for _ in range(25):
        refined, _ = layer(gaussians, views, 0.1, head(gaussians, views))
        loss = ((render(refined, views) - truth) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    good, bad = head(gaussians, views).detach().mean((0, 2, 3)).tolist()
    assert bad < 0.1 and good > 0.5


def test_a_scene_without_any_confidence_keeps_its_prediction():
    gaussians, views = scene()
    confidence, untrusted = silence_untrusted(torch.stack([torch.full((2, H, W), 1e-6), torch.ones(2, H, W)]))
    assert untrusted.tolist() == [True, False]
    refined, info = TTOLayer(TTOConfig(inner_steps=2))(gaussians, views, 0.1, confidence)
    assert info.outcomes == (Outcome.NOTHING_TO_GAIN, Outcome.REFINED)
    assert torch.equal(refined.means[0], gaussians.means[0]) and not torch.equal(refined.means[1], gaussians.means[1])


def test_supervision_is_least_at_the_truth_and_weighs_both_kinds_alike():
    corrupted = torch.zeros(1, 2, H, W, dtype=torch.bool)
    corrupted[0, 1, :2] = True
    truth = (~corrupted).float()
    assert supervision_loss(truth, corrupted) < 1e-4
    half = torch.full_like(truth, 0.5)
    assert supervision_loss(half, corrupted).item() == pytest.approx(0.6931, abs=1e-3)
    wrong_on_the_few, wrong_on_the_many = truth.clone(), truth.clone()
    wrong_on_the_few[corrupted] = 0.5
    wrong_on_the_many[~corrupted] = 0.5
    few, many = supervision_loss(wrong_on_the_few, corrupted), supervision_loss(wrong_on_the_many, corrupted)
    torch.testing.assert_close(few, many, rtol=1e-3, atol=1e-4)
    assert supervision_loss(torch.full_like(truth, 0.9), torch.zeros_like(corrupted)) > 0  # nothing is corrupted


def test_broken_scenes_get_a_finite_confidence():
    gaussians, views = scene()
    gaussians.means[0, 0] = float("nan")
    assert disturbed(ConfidenceHead())(gaussians, views).isfinite().all()


def test_what_does_not_fit_is_named():
    gaussians, views = scene()
    with pytest.raises(ValueError, match="0 feature channels, got 4"):
        ConfidenceHead()(gaussians, views, torch.zeros(2, 2, 4, H, W))
    with pytest.raises(ValueError, match="have none"):
        ConfidenceHead()(gaussians, views.replace(images=None))
