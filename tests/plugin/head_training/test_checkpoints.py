"""Checkpoints written with and without the plugin, loaded with and without it."""

import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of


@pytest.fixture(scope="module")
def wrapper_class():
    return stub_host.make_wrapper_class(lightning.pytorch.LightningModule)


def fit(wrapper_class, folder, steps, ckpt_path=None, names_decide=True):
    torch.manual_seed(1)
    model = wrapper_class(names_decide=names_decide)
    trainer = stub_host.make_trainer(lightning.pytorch, folder, max_steps=steps)
    trainer.fit(model, stub_host.loader(steps, same=True), ckpt_path=ckpt_path)
    path = folder / f"step{steps}.ckpt"
    trainer.save_checkpoint(path)
    return model, path


@pytest.fixture(scope="module")
def plain(wrapper_class, tmp_path_factory):
    return fit(wrapper_class, tmp_path_factory.mktemp("plain"), 2)


@pytest.fixture(scope="module")
def plugged(wrapper_class, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugged")
    with stub_host.plugged_in(wrapper_class, folder):
        return fit(wrapper_class, folder, 2)


def test_the_hosts_part_has_the_hosts_form(plain, plugged):
    with_plugin, without = (torch.load(path, weights_only=False) for _, path in (plugged, plain))
    assert set(with_plugin) - set(without) == {"diff3r"} and set(without) <= set(with_plugin)
    assert list(with_plugin["state_dict"]) == list(without["state_dict"])
    first, second = (state["optimizer_states"][0]["param_groups"] for state in (with_plugin, without))
    assert [len(group["params"]) for group in first] == [len(group["params"]) for group in second]
    assert with_plugin["diff3r"]["head"] and with_plugin["diff3r"]["adapter"] == "stub"


def test_it_can_be_read_without_trusting_it(plugged):
    assert "diff3r" in torch.load(plugged[1], weights_only=True)


def test_plugin_checkpoint_loads_strictly_without_the_plugin(wrapper_class, plugged):
    model = wrapper_class.load_from_checkpoint(plugged[1], strict=True, weights_only=False)
    for name, value in plugged[0].state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_plugin_checkpoint_resumes_without_the_plugin(wrapper_class, plugged, tmp_path):
    model, _ = fit(wrapper_class, tmp_path, 3, ckpt_path=plugged[1])
    assert model.trainer.global_step == 3 and attachment_of(model) is None


def test_plugin_checkpoint_resumes_with_the_plugin(wrapper_class, plugged, tmp_path):
    with stub_host.plugged_in(wrapper_class, tmp_path):
        resumed, _ = fit(wrapper_class, tmp_path, 3, ckpt_path=plugged[1])
        straight, _ = fit(wrapper_class, tmp_path, 3)
    attachment = attachment_of(resumed)
    assert attachment.head.loaded
    steps = {int(state["step"]) for state in attachment.head.optimizer.state_dict()["state"].values()}
    assert steps == {3}, "the head's Adam went on from where it was"
    for (name, value), other in zip(resumed.named_parameters(), straight.parameters(), strict=True):
        assert torch.equal(value, other), name


def test_plain_checkpoint_resumes_with_the_plugin(wrapper_class, plain, tmp_path):
    with stub_host.plugged_in(wrapper_class, tmp_path) as said:
        model, _ = fit(wrapper_class, tmp_path, 3, ckpt_path=plain[1])
    assert model.trainer.global_step == 3 and not attachment_of(model).head.loaded
    assert any("no uncertainty head" in line for line in said)
    (state,) = model.trainer.optimizers[0].state_dict()["state"][0]["step"].reshape(-1).tolist()
    assert state == 3, "the host's optimizer went on from where it was"


def test_plain_checkpoint_is_fine_tuned_with_the_plugin(wrapper_class, plain, tmp_path):
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class.load_from_checkpoint(plain[1], strict=True, weights_only=False)
    for name, value in plain[0].state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_a_host_that_loads_the_bare_state_dict_gets_the_head(wrapper_class, plugged, tmp_path):
    state_dict = torch.load(plugged[1], weights_only=True)["state_dict"]
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        model.load_state_dict(state_dict, strict=True)
    trained, loaded = (attachment_of(m).head.modules["head"].state_dict() for m in (plugged[0], model))
    assert attachment_of(model).head.loaded
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)


def test_a_really_missing_key_is_still_refused(wrapper_class, plugged, tmp_path):
    state_dict = dict(torch.load(plugged[1], weights_only=True)["state_dict"])
    del state_dict["encoder.trunk.weight"]
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        with pytest.raises(RuntimeError, match=r"encoder\.trunk\.weight") as caught:
            model.load_state_dict(state_dict, strict=True)
    assert "diff3r_head" not in str(caught.value)


def test_a_head_of_another_width_is_refused_clearly(wrapper_class, plugged, tmp_path):
    with stub_host.plugged_in(wrapper_class, tmp_path, head_width=8):
        with pytest.raises(PluginError, match=r"(?s)does not fit.*head_width"):
            wrapper_class.load_from_checkpoint(plugged[1], weights_only=False)
