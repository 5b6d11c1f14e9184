"""Loops of other libraries: loaders that look a batch ahead, and checkpoints that hold no metadata."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diff3r_plugin.plugin.attaching.attachment import attachment_of
from diff3r_plugin.plugin.head_training import sidecar

ACCELERATE = """
class DataLoaderShard:
    def __init__(self, base):
        self.base_dataloader = base
    def __getattr__(self, name):
        return getattr(self.__dict__["base_dataloader"], name)
    def __iter__(self):  # one batch ahead, to know when the end has come
        batches = self.base_dataloader.__iter__()
        current = next(batches)
        while True:
            try:
                following = next(batches)
            except StopIteration:
                yield current
                break
            yield current
            current = following
"""

SAFETENSORS = """
import torch
def serialize_file(tensors, filename, metadata=None):
    with open(filename, "wb") as file:
        file.write(repr(list(tensors)).encode())
    torch.serialization._save  # what follows stands for the format
    KEPT[str(filename)] = {name: tensor.clone() for name, tensor in tensors.items()}
KEPT = {}
class safe_open:
    def __init__(self, filename, framework="pt", device="cpu"):
        self.tensors = KEPT[str(filename)]
def save_file(tensors, filename):
    serialize_file(tensors, filename)
def load_file(filename, device="cpu"):
    return dict(safe_open(filename).tensors)
"""


def module_of(name: str, source: str = "") -> ModuleType:
    made = ModuleType(name)
    exec(source, made.__dict__)
    return made


@pytest.fixture
def accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", module_of("accelerate"))
    data_loader = module_of("accelerate.data_loader", ACCELERATE)
    monkeypatch.setitem(sys.modules, "accelerate.data_loader", data_loader)
    return data_loader


@pytest.fixture
def safetensors(monkeypatch):
    files = module_of("safetensors.torch", SAFETENSORS)
    monkeypatch.setitem(sys.modules, "safetensors.torch", files)
    return files


def tested(network, wrap) -> list[dict]:
    torch.manual_seed(3)
    model = network.Network().eval()
    with torch.inference_mode():
        for batch in wrap(torch.utils.data.DataLoader(network.Scenes("test", 3), batch_size=1)):
            model(batch)
    return json.loads(Path("diff3r_scores.json").read_text())["scenes"]


tested.__test__ = False


def test_a_loader_that_looks_ahead_begins_each_step_with_the_batch_it_hands_out(host, accelerate, plugged_in):
    network = sys.modules["network"]
    plugged_in(refine=["test"])
    plain = tested(network, lambda loader: loader)
    plugged_in(refine=["test"])
    ahead = tested(network, accelerate.DataLoaderShard)
    assert [scene["scene"] for scene in ahead] == ["test0", "test1", "test2"] == [scene["scene"] for scene in plain]
    for one, other in zip(ahead, plain, strict=True):
        assert one["before"] == other["before"] and one["after"]["psnr"] == pytest.approx(other["after"]["psnr"])
        assert one["renderer_agreement_psnr"] > 60


def trained(host, plugged_in, **settings):
    plugged_in(**settings)
    model, _, _ = host.main([])
    return model, attachment_of(model).head.modules["head"].state_dict()


def fresh(network):
    torch.manual_seed(11)
    return network.Network()


@pytest.mark.parametrize("how", ["copied entries", "below a name", "safetensors"])
def test_the_head_lies_beside_a_checkpoint_that_cannot_hold_it(host, safetensors, plugged_in, tmp_path, how):
    model, head = trained(host, plugged_in)
    copied = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path / "model.bin"
    if how == "safetensors":
        safetensors.save_file(copied, path)
    else:
        torch.save({"model": copied, "step": 3} if how == "below a name" else copied, path)
    assert sidecar.beside(path).is_file()
    other = fresh(sys.modules["network"])
    found = safetensors.load_file(path) if how == "safetensors" else torch.load(path, weights_only=True)
    with torch.no_grad():
        for name, value in (found["model"] if how == "below a name" else found).items():
            other.state_dict()[name].copy_(value)
    now = attachment_of(other).head
    assert now.loaded == {"head"}
    assert all(torch.equal(value, head[name]) for name, value in now.modules["head"].state_dict().items())


def test_what_holds_its_heads_or_no_model_gets_no_neighbor(host, plugged_in, tmp_path):
    model, _ = trained(host, plugged_in)
    torch.save({"model": model.state_dict()}, tmp_path / "whole.pt")
    torch.save({"losses": torch.zeros(3)}, tmp_path / "losses.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    assert not list(tmp_path.glob(f"*{sidecar.SUFFIX}"))


def test_a_test_with_an_untrained_head_says_so(host, plugged_in):
    said = plugged_in(refine=["test"])
    tested(sys.modules["network"], lambda loader: loader)
    assert any("this test begins with an untrained uncertainty head" in line for line in said)
    said = plugged_in(refine=["test"], head="fixed")
    tested(sys.modules["network"], lambda loader: loader)
    assert not any("untrained" in line for line in said)


def test_a_training_resumed_without_its_head_says_so(host, plugged_in):
    said = plugged_in(refine=["train"])
    network = sys.modules["network"]
    model = fresh(network)
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.load_state_dict(optimizer.state_dict())  # as accelerate does, to move it
    assert not stepped(model, optimizer, said)
    optimizer.load_state_dict(optimizer.state_dict())
    assert stepped(model, optimizer, said) == 1
    assert stepped(model, optimizer, said) == 1, "said once"


def stepped(model, optimizer, said) -> int:
    """After a step of the optimizer: how often it was said that the heads start anew."""
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    return sum("resumed without the heads of its checkpoint" in line for line in said)
