"""Group bases found by trying: what is kept is better on the remembered targets, and nothing else moves them."""

import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of


def train(folder, steps=4, **settings):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, folder, **settings):
        model = wrapper_class()
        stub_host.make_trainer(lightning.pytorch, folder, max_steps=steps).fit(model, stub_host.loader(steps))
        return model


SEARCH = {"base_search_every": 2, "base_search_scenes": 3, "base_search_inner_steps": 2}


def test_a_search_lowers_the_error_it_looks_at(tmp_path):
    search = attachment_of(train(tmp_path, steps=3, **SEARCH)).base_search
    assert len(search._memory) == 3
    before = search._error(search.head.base_weights())
    for _ in range(2):
        found = search.search()
        assert search.head.base_weights() == pytest.approx(found, rel=1e-5)
        after = search._error(search.head.base_weights())
        assert after <= before * (1 + 1e-6)
        before = after


def test_bases_move_at_searches_alone(tmp_path):
    searched = attachment_of(train(tmp_path, steps=4, **SEARCH))
    head = searched.head.modules["head"]
    start = {"means": 0.01, "covariance": 0.01, "opacity": 0.01, "sh_dc": 0.1, "sh_rest": 0.1}
    for group, weight in head.base_weights().items():
        ratio = torch.tensor(weight / start[group]).log() / torch.tensor(1 / 0.6).log()
        assert ratio.item() == pytest.approx(round(ratio.item()), abs=1e-3), "a power of the factor that is tried"
    assert all(parameter is not head.log_base for parameter in searched.head.trained_parameters)
    never = attachment_of(train(tmp_path, steps=1, **SEARCH)).head.modules["head"]
    assert never.base_weights() == pytest.approx(start)


def test_off_by_default(tmp_path):
    attachment = attachment_of(train(tmp_path, steps=1))
    assert attachment.base_search is None and attachment.head.modules["head"].log_base.requires_grad


def test_remembers_the_latest_scenes_only(tmp_path):
    search = attachment_of(train(tmp_path, steps=5, **{**SEARCH, "base_search_scenes": 1})).base_search
    assert len(search._memory) == 1


def test_there_must_be_bases(tmp_path):
    with pytest.raises(PluginError, match="head=fixed has none"):
        train(tmp_path, head="fixed", **SEARCH)


def test_sizes_that_make_no_sense(tmp_path):
    with pytest.raises(PluginError, match="base_search_scenes must be at least 1, got 0"):
        train(tmp_path, base_search_scenes=0)
