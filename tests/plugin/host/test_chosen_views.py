"""Gaussians that stand on some of the context views only."""

import lightning.pytorch
import pytest
import torch
from plugin import stub_host
from plugin.stub_host import StubAdapter, StubEncoder
from plugin.test_host_variants import CentersAdapter, CentersEncoder
from torch import nn

from diff3r_plugin import Views
from diff3r_plugin.plugin import PluginError, ViewChoice
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.plugin.host.chosen_views import ChosenViews


class Encoder(nn.Module):
    """Returns from its submodule ``choose`` whatever it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.choose = nn.Identity()

    def forward(self, chosen):
        self.choose(chosen)


def views(count: int = 3) -> Views:
    cameras = torch.eye(4).repeat(2, count, 1, 1)
    cameras[..., 0, 3] = torch.arange(2 * count).reshape(2, count)
    return Views(cameras, torch.eye(3).expand(2, count, 3, 3), torch.rand(2, count, 3, 4, 4))


def test_views_come_in_the_order_of_the_choice_which_each_scene_makes_for_itself():
    encoder, given = Encoder(), views()
    chosen = ChosenViews(encoder, ViewChoice("choose", 1))
    encoder((None, torch.tensor([[2, 0], [1, 2]])))
    seen = chosen.of(given)
    assert seen.world_to_camera[..., 0, 3].tolist() == [[2, 0], [4, 5]]
    assert torch.equal(seen.images[1, 0], given.images[1, 1]) and seen.image_size == given.image_size


def test_an_encoder_without_the_module_predicts_for_all_views():
    given = views()
    chosen = ChosenViews(nn.Identity(), ViewChoice("choose", 1))
    assert not chosen.active and chosen.of(given) is given


def test_a_choice_is_good_for_one_call():
    encoder = Encoder()
    chosen = ChosenViews(encoder, ViewChoice("choose", 0))
    encoder((torch.tensor([[0], [1]]),))
    chosen.of(views())
    with pytest.raises(PluginError, match="did not call choose"):
        chosen.of(views())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.tensor(3.0), "found NoneType"),
        ((torch.rand(2, 1),), r"found shape \[2, 1\] of torch.float32"),
        ((torch.tensor([[0]]),), r"indices of 2 scenes.*found shape \[1, 1\]"),
        ((torch.tensor([[0], [3]]),), r"chose views \[\[0\], \[3\]\], but there are 3"),
    ],
)
def test_what_is_no_choice_of_views_is_refused(returned, message):
    encoder = Encoder()
    chosen = ChosenViews(encoder, ViewChoice("choose", 0))
    encoder(returned)
    with pytest.raises(PluginError, match=message):
        chosen.of(views())


def fit(folder, **settings):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule, CentersEncoder)
    with stub_host.plugged_in(wrapper_class, folder, CentersAdapter, **settings):
        model = wrapper_class()
        stub_host.make_trainer(lightning.pytorch, folder, max_steps=1).fit(model, stub_host.loader(1))
    return attachment_of(model)


def test_the_head_sees_the_chosen_views_and_poses_of_all_views_may_move(tmp_path):
    attachment = fit(tmp_path, groups=["means", "poses"])
    assert attachment.refiner.weights.head.groups == ("means", "poses")


def test_pixel_weights_are_refused_at_the_start(tmp_path):
    with pytest.raises(PluginError, match="for some of the context views only"):
        fit(tmp_path, confidence="learned")


def test_fixed_weights_need_no_choice(tmp_path):
    assert not fit(tmp_path, head="fixed").refiner.chosen.active


@pytest.mark.parametrize(("encoder", "adapter"), [(CentersEncoder, CentersAdapter), (StubEncoder, StubAdapter)])
def test_weights_of_views_are_spread_only_where_some_views_have_no_gaussians(tmp_path, encoder, adapter):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule, encoder)
    with stub_host.plugged_in(wrapper_class, tmp_path, adapter, groups=["means", "poses"]):
        model = wrapper_class()
        refiner, asked = attachment_of(model).refiner, []
        weights = refiner.weights
        refiner.weights = lambda *call: asked.append(call[3]) or weights(*call)
        stub_host.make_trainer(lightning.pytorch, tmp_path, max_steps=1).fit(model, stub_host.loader(1))
    assert asked == [2 if adapter is CentersAdapter else None]
