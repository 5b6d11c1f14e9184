"""The examples of docs/adapters.md are complete: they run as they stand, and keep the contract of adapters."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import host_stubs as stub
import pytest
import torch
from torch import nn

from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.plugin import Call, HostAdapter
from diff3r_plugin.plugin.host.contract import AdapterContract, Example

PAGE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
BLOCKS = [
    block
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    if "\n\n\nclass " in block and "from " in block
]


def adapters() -> dict[str, type[HostAdapter]]:
    """The adapter that each complete block defines."""
    found = {}
    for block in BLOCKS:
        names: dict[str, object] = {"__name__": "example"}
        if "contract import AdapterContract" in block:  # a test, not an adapter
            continue
        exec(compile(block, "docs/adapters.md", "exec"), names)
        made = [v for v in names.values() if inspect.isclass(v) and v.__module__ == "example"]
        found |= {adapter.name: adapter for adapter in made}
    return found


ADAPTERS = adapters()


def poses() -> torch.Tensor:
    return stub.context()["extrinsics"] @ torch.eye(4)


OUTPUTS = {
    "pose_predicting": lambda: {"gaussians": stub.host_gaussians(), "poses": poses()},
    "two_grids": lambda: grids(),
    "one_call_a_target": lambda: stub.host_gaussians(),
    "centers": lambda: stub.host_gaussians(views=1),
    "list_of_scenes": lambda: scenes_of_two_sizes(),
    "with_mean": lambda: stub.host_gaussians(),
    "merging": lambda: stub.HostGaussians(**{n: v[:, :31] for n, v in vars(stub.host_gaussians()).items()}),
}


def scenes_of_two_sizes() -> dict:
    whole = vars(stub.host_gaussians())
    return {
        "gaussians": [stub.HostGaussians(**{n: v[i : i + 1, : 31 - 5 * i] for n, v in whole.items()}) for i in (0, 1)]
    }


def grids() -> stub.HostGaussians:
    scene = stub.host_gaussians(per_pixel=2)
    count = sum(grid.count(stub.V, stub.H, stub.W) for grid in ADAPTERS["two_grids"]().alignment(None))
    return stub.HostGaussians(**{name: value[:, :count] for name, value in vars(scene).items()})


def test_every_kind_of_host_has_its_example():
    assert set(ADAPTERS) == {*OUTPUTS, "plain_loop", "after_update"}, "the last two are tested with hosts"


@pytest.mark.parametrize("check", [name for name in dir(AdapterContract) if name.startswith("test_")])
@pytest.mark.parametrize("name", OUTPUTS)
def test_it_keeps_the_contract(name, check):
    class Contract(AdapterContract):
        def example(self):
            return Example(ADAPTERS[name](), stub.wrapper(), stub.context(), OUTPUTS[name](), stub.B)

    getattr(Contract(), check)()


def test_the_grids_and_their_absence_are_declared():
    assert ADAPTERS["two_grids"]().alignment(None) == (PixelGrid(2, 2), PixelGrid())
    assert ADAPTERS["merging"]().alignment(None) is None and ADAPTERS["centers"].chosen_views.item == 1


def test_refined_cameras_go_back_into_the_output_and_targets_keep_those_of_the_data():
    adapter, output = ADAPTERS["pose_predicting"](), OUTPUTS["pose_predicting"]()
    moved = torch.linalg.inv(poses()).roll(1, 1)
    written = adapter.with_gaussians(output, adapter.gaussians(output, stub.B), moved)
    torch.testing.assert_close(written["poses"], torch.linalg.inv(moved))
    batch = {"context": stub.context(), "target": stub.context()}
    target = adapter.target_views(stub.wrapper(), batch, {**output, "poses": torch.eye(4).expand_as(poses())})
    torch.testing.assert_close(target.world_to_camera, torch.linalg.inv(poses()))


def test_a_call_is_about_the_target_it_is_given():
    adapter = ADAPTERS["one_call_a_target"]()
    batch = {"context": 1, "target": 2, "scene": ["a"]}
    assert adapter.batch_of_call(Call(None, (1, 0), {"target": 3}, batch)) == {
        "context": 1,
        "target": 3,
        "scene": ["a"],
    }
    assert adapter.batch_of_call(Call(None, (1, 0), {}, batch)) == batch


def test_a_mean_of_the_encoder_is_named_once_there_is_one():
    adapter, wrapper = ADAPTERS["with_mean"](), stub.wrapper()
    assert adapter.encoder_copies(wrapper) == []
    wrapper.ema = nn.Module()
    wrapper.ema.ema_model = nn.Linear(1, 1)
    assert adapter.encoder_copies(wrapper) == [wrapper.ema.ema_model]


def test_scenes_of_two_sizes_are_filled_up_and_cut_again():
    adapter, output = ADAPTERS["list_of_scenes"](), scenes_of_two_sizes()
    scene = adapter.scene(output)
    assert scene.means.shape[:2] == (2, 31) and (scene.opacities[1, 26:] == 0).all()
    back = adapter.with_scene({**output, "more": 1}, scene)
    assert [one.means.shape[1] for one in back["gaussians"]] == [31, 26] and back["more"] == 1


def test_what_an_update_rendered_is_rendered_again_with_gradients():
    adapter, wrapper, target = ADAPTERS["after_update"](), stub.wrapper(), {**stub.context(), "name": "target"}
    wrapper.encoder.cfg.num_updates = 2
    assert adapter.refined_of(wrapper.encoder).name == "update"
    wrapper.decoder.forward = lambda scene, *cameras: SimpleNamespace(
        color=scene.means.sum() * torch.ones(1, 1, 3, 2, 2)
    )
    first, last = stub.host_gaussians(), stub.host_gaussians(seed=1)
    output = {"gaussians": [first, last], "renderings": [torch.zeros(1), torch.zeros(1)]}
    parameters = ("context", "scene", "target")
    call = Call(wrapper, (stub.context(), first), {"target": target}, {"target": target}, "train", parameters)
    refined = adapter.gaussians(output, stub.B, call).map(lambda t: (t * 0.5).requires_grad_())
    changed = adapter.with_gaussians(output, refined, None, call)
    assert changed["gaussians"][0] is first and torch.equal(changed["gaussians"][1].means, refined.means)
    assert torch.equal(output["renderings"][1], torch.zeros(1)), "the host's own output stays as it is"
    changed["renderings"][-1].sum().backward()
    assert (refined.means.grad != 0).all()
    wrapper.encoder.cfg.num_updates = 0
    assert adapter.refined_of(wrapper.encoder).name == "forward"
    assert adapter.with_gaussians(last, refined, None, call).means is refined.means
