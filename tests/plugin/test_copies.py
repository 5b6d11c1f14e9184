"""A host that copies its model (a running mean of its weights, say) gets a copy of the host's model."""

import copy

import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of


@pytest.fixture
def model(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        yield wrapper_class()


def test_a_copy_has_parameters_of_its_own_and_those_of_the_host_alone(model):
    twin = copy.deepcopy(model)
    pairs = list(zip(model.named_parameters(), twin.named_parameters(), strict=True))
    assert pairs and all(first == second for (first, _), (second, _) in pairs)
    assert not any(own is other for (_, own), (_, other) in pairs)
    assert list(twin.state_dict()) == list(model.state_dict())


def test_a_copys_encoder_runs_with_the_copys_weights(model):
    twin = copy.deepcopy(model.encoder)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    context = stub_host.batch()["context"]
    assert not torch.equal(twin(context).harmonics, model.encoder(context).harmonics)


def test_a_copy_is_not_refined(model):
    twin = copy.deepcopy(model)
    assert attachment_of(twin) is None
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    twin.training_step(stub_host.batch(), 0)
    assert not calls and twin.encoder.calls == model.encoder.calls + 1


def test_a_copy_loads_a_state_dict_of_the_host(model):
    copy.deepcopy(model).load_state_dict(model.state_dict())


def test_a_whole_encoder_can_be_saved_and_is_the_hosts_own(model, tmp_path):
    torch.save(model.encoder, tmp_path / "encoder.pt")
    loaded = torch.load(tmp_path / "encoder.pt", weights_only=False)
    context = stub_host.batch()["context"]
    assert torch.equal(loaded(context).harmonics, model.encoder(context).harmonics)


def test_a_copys_calls_keep_no_features(model):
    twin = copy.deepcopy(model.encoder)
    (read,) = twin.to_gaussians._forward_pre_hooks.values()
    for _ in range(2):
        twin(stub_host.batch()["context"])
    assert read.__self__ is not attachment_of(model).refiner.tap and not read.__self__._kept
