"""A host without Hydra and Lightning, in a loop of its own, with the adapter that docs/adapters.md shows."""

import functools
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from plugin import own_process
from plugin.plain_loop_host import ADAPTER, HOST, adapter_class

from diff3r_plugin import UncertaintyHead
from diff3r_plugin.cli import doctor
from diff3r_plugin.plugin import PluginError, session, without_hydra
from diff3r_plugin.plugin.attaching.attachment import attachment_of
from diff3r_plugin.plugin.host import registry
from diff3r_plugin.plugin.host.contract import AdapterContract, Example
from diff3r_startup import activation


@pytest.fixture
def at_exit(monkeypatch):
    """What is to be called when the program ends."""
    registered = []
    monkeypatch.setattr("atexit.register", lambda function: registered.append(function) or function)
    return registered


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def same(one, other):
    return list(one) == list(other) and all(torch.equal(value, other[name]) for name, value in one.items())


def test_training_and_test_are_refined_and_the_head_learns(host, plugged_in):
    _, plain, plain_errors = host.main([])
    plugged_in()
    model, losses, errors = host.main([])
    assert all(with_it < without for with_it, without in zip(losses, plain, strict=True))
    assert all(with_it < without for with_it, without in zip(errors, plain_errors, strict=True))
    scores = json.loads(Path("diff3r_scores.json").read_text())
    assert [scene["scene"] for scene in scores["scenes"]] == ["test0", "test1", "test2", "test3"]
    assert scores["mean"]["psnr"]["after"]["mean"] > scores["mean"]["psnr"]["before"]["mean"] + 1
    assert min(scene["renderer_agreement_psnr"] for scene in scores["scenes"]) > 60
    head = attachment_of(model).head.modules["head"]
    start = type(head)(head.groups, feature_channels=0).state_dict()["log_base"]
    assert (head.log_base - start).abs().max() > 0
    lines = [json.loads(line) for line in Path("diff3r_metrics.jsonl").read_text().splitlines()]
    trained = [line["step"] for line in lines if "diff3r/stationarity" in line]
    assert trained == [1, 2, 3, 4] and "diff3r/val/psnr_target_after" in lines[-3]


def test_nothing_refined_is_bit_identical(host, plugged_in):
    plain, without, _ = host.main([])
    plugged_in(refine=[])
    model, losses, _ = host.main(["--save", "off.pt"])
    assert losses == without and same(weights("last.pt"), weights("off.pt"))
    assert len(list(model.parameters())) == len(list(plain.parameters()))


def test_a_resumed_run_ends_where_one_in_one_go_does(host, plugged_in):
    plugged_in()
    whole, _, _ = host.main(["--save", "whole.pt"])
    host.main(["--steps", "2", "--save", "half.pt"])
    resumed, _, _ = host.main(["--resume", "half.pt", "--save", "resumed.pt"])
    assert same(weights("whole.pt"), weights("resumed.pt")) and not same(weights("half.pt"), weights("resumed.pt"))
    heads = [attachment_of(model).head.modules["head"].state_dict() for model in (whole, resumed)]
    assert same(*heads) and attachment_of(resumed).head.loaded == {"head"}


def test_checkpoints_pass_both_ways(host, plugged_in):
    host.main(["--steps", "2", "--save", "plain.pt"])
    said = plugged_in()
    host.main(["--steps", "2", "--save", "plugin.pt"])
    assert list(weights("plain.pt")) == list(weights("plugin.pt"))
    host.main(["--resume", "plain.pt"])
    assert any("has no uncertainty head" in line for line in said)


def test_a_checkpoint_of_the_plugin_is_read_without_it(host, plugged_in):
    plugged_in()
    model, _, _ = host.main(["--steps", "2"])
    bare = torch.nn.Module()
    bare.encoder = type(model.encoder)()
    bare.load_state_dict(weights("last.pt"))
    assert torch.equal(bare.encoder.to_gaussians.weight, model.encoder.to_gaussians.weight)


def test_the_head_survives_a_wrapper_around_the_model(host, plugged_in):
    plugged_in()
    model, _, _ = host.main(["--steps", "2"])
    state = torch.nn.ModuleDict({"module": model}).state_dict()
    assert not any("diff3r" in name for name in state)
    other = sys.modules["network"].Network()
    torch.nn.ModuleDict({"module": other}).load_state_dict(state)
    assert same(*(attachment_of(m).head.modules["head"].state_dict() for m in (model, other)))


def test_calls_of_a_training_step_in_evaluation_mode_are_none_of_its_own(host, plugged_in):
    """A host looks at other data between two steps of its training, without a loop around that."""
    plugged_in()
    network = sys.modules["network"]
    model = network.Network()
    optimizer = torch.optim.Adam(model.parameters())
    drawn = iter(torch.utils.data.DataLoader(network.Scenes("train"), batch_size=2))
    model.eval()
    for _ in range(2):
        batch = next(drawn)
        model.train()  # after the batch was drawn
        model(batch).mean().backward()
        optimizer.step()
        model.eval()
        before = len(attachment_of(model).calls._steps[-1].calls)
        with torch.no_grad():
            model(next(iter(torch.utils.data.DataLoader(network.Scenes("test"), batch_size=1))))
        assert (before, len(attachment_of(model).calls._steps[-1].calls)) == (1, 1)
    assert next(drawn, None) is None
    lines = [json.loads(line) for line in Path("diff3r_metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2] and all("diff3r/stationarity" in line for line in lines)
    assert not Path("diff3r_scores.json").exists()


def test_an_evaluation_that_ends_early_has_its_scores(host, plugged_in):
    plugged_in()
    model = sys.modules["network"].Network().eval()
    with torch.inference_mode():
        for batch in torch.utils.data.DataLoader(sys.modules["network"].Scenes("test"), batch_size=1):
            model(batch)
            break
    assert len(json.loads(Path("diff3r_scores.json").read_text())["scenes"]) == 1


def test_of_two_models_the_one_that_is_tested_has_scores(host, plugged_in):
    plugged_in()
    models = [sys.modules["network"].Network().eval() for _ in range(2)]
    with torch.inference_mode():
        for batch in torch.utils.data.DataLoader(sys.modules["network"].Scenes("test"), batch_size=2):
            models[1](batch)
    assert len(json.loads(Path("diff3r_scores.json").read_text())["scenes"]) == 4


def test_a_loop_within_a_test_does_not_end_it_and_one_that_is_none_leaves_nothing(host, plugged_in):
    plugged_in()
    network = sys.modules["network"]
    model = network.Network().eval()

    def loader():
        return torch.utils.data.DataLoader(network.Scenes("test"), batch_size=2)

    assert len(list(loader())) == 2 and not list(Path.cwd().glob("*scores*")), "nothing was asked of the model"
    with torch.inference_mode():
        for batch in loader():
            model(batch)
            assert len(list(loader())) == 2 and not Path("diff3r_scores.json").exists()
    assert len(json.loads(Path("diff3r_scores.json").read_text())["scenes"]) == 4


def test_an_interrupted_test_goes_on(host, plugged_in):
    def evaluation():
        model = sys.modules["network"].Network().eval()
        for batch in torch.utils.data.DataLoader(sys.modules["network"].Scenes("test"), batch_size=1):
            with torch.inference_mode():
                model(batch)
            yield batch["name"][0]

    plugged_in()
    broken_off = evaluation()
    assert [next(broken_off) for _ in range(3)] == ["test0", "test1", "test2"], "the third is not over"
    said = plugged_in()  # as in another process
    assert list(evaluation()) == ["test2", "test3"]
    assert any("resuming the test that was interrupted: 2 scenes" in line for line in said)
    assert len(json.loads(Path("diff3r_scores.json").read_text())["scenes"]) == 4


def test_two_loops_that_take_turns_do_not_mix_up_their_batches(host, plugged_in):
    plugged_in(refine=["test"])
    network = sys.modules["network"]
    model = network.Network().eval()
    loaders = [torch.utils.data.DataLoader(network.Scenes(split, 2), batch_size=1) for split in ("val", "test")]
    with torch.inference_mode():
        for _, batch in zip(*loaders, strict=True):
            model(batch)
        model(batch)
    scores = json.loads(Path("diff3r_scores.json").read_text())
    assert [scene["scene"] for scene in scores["scenes"]] == ["test0", "test1"]


@pytest.mark.parametrize(("arguments", "silent"), [(["--by-hand"], False), ([], True)])
def test_a_program_in_which_nothing_was_refined_says_so_at_its_end(host, at_exit, plugged_in, arguments, silent):
    said = plugged_in()
    host.main(["--steps", "1", *arguments])
    (at_the_end,) = at_exit
    at_the_end()
    told = [line for line in said if "nothing was refined: no network:Network called its encoder between two" in line]
    assert len(told) == (0 if silent else 1)


def test_under_hydra_it_begins_with_the_main_function(host, monkeypatch, capsys):
    monkeypatch.setattr(registry, "adapters", lambda: {"plain_loop": adapter_class()})

    @functools.wraps(host.main)  # from which its checkout is found
    def task(config):
        return host.main(["--steps", "1"])

    try:
        session.run(task, {"diff3r": {"inner_steps": 2, "lpips": "off"}})
    finally:
        session.current().end()
    assert "adapter plain_loop, refining in train/val/test, 2 gauss_newton steps" in capsys.readouterr().err
    assert len(json.loads(Path("diff3r_scores.json").read_text())["scenes"]) == 4


def test_doctor_lists_what_is_watched(monkeypatch, capsys):
    monkeypatch.setattr(registry, "adapters", lambda: {"plain_loop": adapter_class()})
    assert doctor.checkout(HOST, "auto")
    out = capsys.readouterr().out
    assert "1 of 1 expectations hold" in out and "a batch begins a step" in out and "training_step" not in out


def test_only_classes_of_a_program_may_be_its_model(host, monkeypatch):
    monkeypatch.delitem(sys.modules, "hydra", raising=False)
    network = sys.modules["network"].Network
    assert activation._of_a_host(network) and not activation._of_a_host(torch.nn.Linear)
    assert not activation._of_a_host(UncertaintyHead)
    monkeypatch.setitem(sys.modules, "hydra", torch)
    assert not activation._of_a_host(network), "Hydra's main function begins the session"


@pytest.mark.parametrize("name", ["unrefined_loss", "confidence_supervision"])
def test_what_needs_the_hosts_loss_is_refused(plugged_in, name):
    with pytest.raises(PluginError, match=f"diff3r.{name} adds to the loss"):
        plugged_in(**{name: 0.1, "confidence": "learned"})


class TestThePagesAdapter(AdapterContract):
    def example(self):
        spec = importlib.util.spec_from_file_location("network_of_the_contract", HOST / "network.py")
        network = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(network)
        context = torch.utils.data.default_collate([network.Scenes("test")[i] for i in range(2)])["context"]
        model = network.Network()
        output = {name: value.detach() for name, value in model.encoder(context).items()}
        return Example(adapter_class()(), model, context, output, scenes=2)


def run(folder, *command):
    site = folder / "site" / "plain_adapter-1.0.dist-info"
    site.mkdir(parents=True, exist_ok=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-adapter\nVersion: 1.0\n")
    (site / "entry_points.txt").write_text("[diff3r]\nplain_loop = plain_adapter\n")
    (folder / "site" / "plain_adapter.py").write_text(ADAPTER)
    return own_process.run(folder, *command, PYTHONPATH=str(folder / "site"), PYTHONDONTWRITEBYTECODE="1")


def test_the_command_line_is_the_hosts_with_settings_of_both_kinds(tmp_path):
    """Some seconds: a process of its own."""
    for name in ("network", "train"):
        (tmp_path / f"{name}.py").write_text((HOST / f"{name}.py").read_text())
    status, out = run(
        tmp_path, "--set", "inner_steps=9", "--", sys.executable, "train.py", "--steps", "2", "diff3r.inner_steps=2"
    )
    assert status == 0, out
    assert (
        "adapter plain_loop, refining in train/val/test, 2 gauss_newton steps" in out
        and "nothing was refined" not in out
    )
    assert len(json.loads((tmp_path / "diff3r_scores.json").read_text())["scenes"]) == 4


def test_a_script_without_hydra_of_a_host_that_trains_under_it_has_a_session_of_its_own(host, monkeypatch, tmp_path):
    class UnderHydra(adapter_class()):
        hydra = True
        fingerprints = ("test.py",)

    begun = []
    main = tmp_path / "test.py"
    monkeypatch.setattr(registry, "adapters", lambda: {"under_hydra": UnderHydra})
    monkeypatch.setattr(session, "begin", lambda config, start, wrapper: begun.append((config["diff3r"], start)))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(main), raising=False)
    monkeypatch.setattr(sys, "argv", ["test.py", "weights.pt", "diff3r.inner_steps=3"])
    main.write_text("import hydra\n")
    without_hydra.class_defined(sys.modules["network"].Network)
    assert not begun and len(sys.argv) == 3, "Hydra reads the command line"
    main.write_text("import sys\nconfig = '.hydra/config.yaml'  # of the training\n")
    without_hydra.class_defined(sys.modules["network"].Network)
    assert [(settings["inner_steps"], start) for settings, start in begun] == [(3, main)]
    assert sys.argv == ["test.py", "weights.pt"]


def test_every_patch_says_what_it_is_for(host, plugged_in):
    from diff3r_plugin.plugin.attaching import loop_patches

    plugged_in()
    patches = list(plugged_in.patches)
    said = {patch.attribute: patch.why for patch in patches if patch.owner is not torch.optim.Optimizer}
    assert "uncertainty head" in said["__init__"] and "begins a step" in said["__iter__"]
    (optimizer,) = [patch for patch in patches if patch.owner is torch.optim.Optimizer]
    assert optimizer.why == loop_patches.WATCHED[loop_patches.OPTIMIZER]


def test_changes_of_any_weight_are_seen_with_one_wait_a_device(monkeypatch):
    from diff3r_plugin.plugin.attaching.plain_loop import _summed

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    before = _summed(model)
    model[1].bias.data.add_(1)
    changed = [a != b for a, b in zip(before, _summed(model), strict=True)]
    assert changed == [False, False, False, True]
    waits = []
    for name in ("item", "tolist", "__float__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda t, _o=original, _n=name: waits.append(_n) or _o(t))
    _summed(model)
    assert waits == ["tolist"]
