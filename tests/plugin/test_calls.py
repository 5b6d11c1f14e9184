"""What an adapter knows of a call, what it may write to, and whether the host uses what comes back."""

import json
from types import SimpleNamespace

import lightning.pytorch
import pytest
import torch
from plugin import stub_host
from plugin.test_pose_predicting_hosts import Adapter as PosePredicting
from plugin.test_pose_predicting_hosts import make_wrapper_class as pose_predicting_class
from torch import nn

from diff3r_plugin.plugin import NO_CALL, Call, HostAdapter, PluginError, RefinedMethod, session
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.plugin.scoring.use_check import UseCheck


def scored(folder, wrapper_class, adapter_class, batches=2, **settings):
    """Test a stub host; returns the model, what was said, and the scores."""
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, folder, adapter_class, **settings) as said:
        model = wrapper_class()
        stub_host.make_trainer(lightning.pytorch, folder).test(model, stub_host.loader(batches), verbose=False)
    return model, said, json.loads((folder / "diff3r_scores.json").read_text())["scenes"]


def test_arguments_are_found_however_they_are_given():
    call = Call(None, ("a", 1), {"dump": {"x": 1}}, parameters=("context", "step", "dump", "more"))
    assert [call.argument(name) for name in ("context", "step", "dump")] == ["a", 1, {"x": 1}]
    assert call.argument("more") is None and call.argument("more", 7) == 7 and NO_CALL.argument("dump") is None
    given = Call(None, ("a", 1, {"x": 1}), parameters=call.parameters)
    for one in (call, given):
        copied = one.with_copies(("dump", "more"))
        copied.argument("dump")["x"] = 2
        assert one.argument("dump") == {"x": 1} and copied.argument("context") is one.argument("context")


class NotingEncoder(stub_host.StubEncoder):
    def forward(self, context, global_step=0, deterministic=False, dump=None):
        if dump is not None:
            dump["shift"] = torch.tensor(0.0)
        return super().forward(context, global_step)


class NotingAdapter(stub_host.StubAdapter):
    """Writes into a dictionary that the host passes along, and reads there what a rendering is shifted by."""

    mutable = ("dump",)

    def with_gaussians(self, output, refined, cameras=None, call=NO_CALL):
        call.argument("dump")["shift"] = call.argument("dump")["shift"] + 1
        return super().with_gaussians(output, refined, cameras, call)

    def render_targets(self, wrapper, output, batch, call=NO_CALL):
        self.read.append(float(call.argument("dump")["shift"]))
        return super().render_targets(wrapper, output, batch, call)

    read: list[float] = []


def noting_class():
    class ModelWrapper(stub_host.make_wrapper_class(lightning.pytorch.LightningModule, NotingEncoder)):
        def forward_loss(self, batch):
            self.dump = {}
            scene = self.encoder(batch["context"], self.global_step, dump=self.dump)
            target = batch["target"]
            cameras = (target[k] for k in ("extrinsics", "intrinsics", "near", "far"))
            color = self.decoder.forward(scene, *cameras, target["image"].shape[-2:]).color
            return (color - target["image"]).square().mean()

    return ModelWrapper


def test_the_hosts_own_arguments_are_written_to_once_and_read_as_they_were(tmp_path):
    NotingAdapter.read = []
    model, _, _ = scored(tmp_path, noting_class(), NotingAdapter, batches=1, eval_steps=[0, 1, 4])
    assert float(model.dump["shift"]) == 1, "the final result alone, no matter how often a scene is refined"
    assert NotingAdapter.read == [0, 1, 1, 1, 1], "before; after; after other numbers of steps, each from the start"


THRESHOLD = 0.5


class PruningDecoder(stub_host.StubDecoder):
    def forward(self, gaussians, *cameras):
        kept = gaussians.opacities >= THRESHOLD
        return super().forward(
            type(gaussians)(**{**vars(gaussians), "opacities": gaussians.opacities * kept}), *cameras
        )


class PruningAdapter(stub_host.StubAdapter):
    tells = True

    def visible(self, call, gaussians):
        self.seen_in = call.stage
        return gaussians.opacities >= THRESHOLD if self.tells else None


class Silent(PruningAdapter):
    tells = False


def pruning_class():
    class ModelWrapper(stub_host.make_wrapper_class(lightning.pytorch.LightningModule)):
        def __init__(self):
            super().__init__()
            self.decoder = PruningDecoder()
            with torch.no_grad():  # some above the threshold, some below
                opacities = self.encoder(stub_host.batch()["context"]).opacities
                self.encoder.to_gaussians.bias[4] -= opacities.logit().mean()

    return ModelWrapper


def test_gaussians_that_the_decoder_drops_are_neither_rendered_nor_moved(tmp_path):
    wrapper_class, kept = pruning_class(), []
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, tmp_path, PruningAdapter):
        model = wrapper_class()
        plain = model.encoder(stub_host.batch()["context"])
        run = attachment_of(model).calls
        report = attachment_of(model).reporter.report
        attachment_of(model).reporter.report = lambda step: kept.append(step) or report(step)
        model.training_step(stub_host.batch(), 0)
    after, dropped = kept[0].calls[0].refinement.after, plain.opacities < THRESHOLD
    assert run.context.adapter.seen_in == "train" and dropped.any() and not dropped.all()
    for name, value in vars(after).items():
        assert torch.equal(value[dropped], getattr(plain, name)[dropped]), name
    assert not torch.equal(after.opacities[~dropped], plain.opacities[~dropped])
    assert not torch.equal(after.means[~dropped], plain.means[~dropped])


def test_our_rendering_agrees_once_we_know_what_is_dropped(tmp_path):
    _, said, told = scored(tmp_path / "told", pruning_class(), PruningAdapter)
    assert min(scene["renderer_agreement_psnr"] for scene in told) > 90 and not said
    _, said, silent = scored(tmp_path / "silent", pruning_class(), Silent)
    assert max(scene["renderer_agreement_psnr"] for scene in silent) < 40
    assert any("that the decoder drops" in line for line in said)


class NoMask(stub_host.StubAdapter):
    def visible(self, call, gaussians):
        return gaussians.opacities


def test_what_is_no_mask_is_refused(tmp_path):
    with pytest.raises(PluginError, match=r"visible\(\) must give bool \[2, 96\].*float32"):
        scored(tmp_path, stub_host.make_wrapper_class(lightning.pytorch.LightningModule), NoMask)


class ChangingPoses(PosePredicting):
    """In training the prediction lies among the data's poses in every second step."""

    def poses_source(self, call):
        if call.stage != "train":
            return None
        return "batch" if call.wrapper.encoder.calls % 2 else "predicted"


def test_each_call_has_the_poses_it_lies_among(tmp_path):
    wrapper_class = pose_predicting_class()
    with stub_host.plugged_in(wrapper_class, tmp_path, ChangingPoses):
        model = wrapper_class()
        seen, refiner = [], attachment_of(model).refiner
        for name in ("layer", "layer_with_poses"):
            getattr(refiner, name).register_forward_pre_hook(
                lambda _, inputs, name=name: seen.append((name, inputs[1]))
            )
        for step in range(2):
            model.training_step(stub_host.batch(), step)
            moved = model.seen["extrinsics"]["cwt"][:, 1, 0, 3] - model.encoder.offset[0]
            assert (moved.abs() > 1e-6).any() == (step == 1), "poses of the data are held"
        model.test_step(stub_host.batch(), 0)
    assert [name for name, _ in seen[:3]] == ["layer", "layer_with_poses", "layer_with_poses"]
    for (_, views), x in zip(seen, (0.05, 0.04), strict=False):
        torch.testing.assert_close(-views.world_to_camera[:, 1, 0, 3], torch.full((2,), x))


class Elsewhere(ChangingPoses):
    def poses_source(self, call):
        return "from the stars"


def test_an_unknown_source_of_poses_is_refused(tmp_path):
    with pytest.raises(PluginError, match=r"poses_source.*'from the stars'"):
        scored(tmp_path, pose_predicting_class(), Elsewhere)


# ---------------------------------------------------------------- is it used?


def ignoring_class(uses: str):
    """A host that renders the refined scene, the network's own, or a scene that it rebuilds of both."""

    class ModelWrapper(stub_host.make_wrapper_class(lightning.pytorch.LightningModule)):
        def __init__(self):
            super().__init__()
            self.encoder.register_forward_hook(lambda *_: None)
            plain = type(self.encoder).forward

            def noting(encoder, *arguments, **named):
                self.plain = plain(encoder, *arguments, **named)
                return self.plain

            self.encoder.__class__ = type("Encoder", (type(self.encoder),), {"forward": noting})
            draw = self.decoder.forward
            self.decoder.forward = lambda scene, *rest: draw(self.rebuilt(scene), *rest)

        def rebuilt(self, scene):
            if uses == "network's" and self.testing:
                return self.plain
            if uses == "half" and self.testing:
                return type(scene)(**{**vars(self.plain), "opacities": scene.opacities})
            return scene

        testing = False

        def test_step(self, batch, batch_idx):
            self.testing = True
            super().test_step(batch, batch_idx)
            self.testing = False

    return ModelWrapper


@pytest.mark.parametrize("uses", ["refined", "network's", "half"])
def test_a_host_that_ignores_what_was_refined_is_found_out(tmp_path, uses):
    _, said, scenes = scored(tmp_path, ignoring_class(uses), stub_host.StubAdapter, inner_steps=4)
    mean = {key: sum(s[key]["psnr"] for s in scenes) / len(scenes) for key in ("before", "after")}
    host = sum(scene["host_psnr"] for scene in scenes) / len(scenes)
    errors = [line for line in said if line.startswith("error: the host does not use what was refined")]
    if uses == "refined":
        assert not errors and host == pytest.approx(mean["after"], abs=1e-4)
        return
    assert len(errors) == 1
    for figure in (host, mean["after"], mean["before"]):
        assert f"{figure:.2f} dB" in errors[0]


def test_renderings_in_several_pieces_are_put_together():
    truth = 0.5 * torch.rand(1, 3, 3, 4, 4)
    before, after = truth + 0.2, truth + 0.1
    check = UseCheck()
    other = torch.zeros(1, 1, 3, 8, 8)
    figure = check.add([before, other, after[:, :2], after[:, 2:]], before, after, truth)
    assert figure.item() == pytest.approx(20, abs=0.01)
    assert check.problem("x") is None
    check = UseCheck()
    assert check.add([other], before, after, truth) is None and check.problem("x") is None
    check.add([after, before], before, after, truth)
    assert "13.98 dB, those of the refined scenes 20.00 dB" in check.problem("x")


def test_a_refinement_that_changes_nothing_is_no_reason_to_complain():
    truth, same = torch.rand(1, 1, 3, 4, 4), torch.rand(1, 1, 3, 4, 4)
    check = UseCheck()
    check.add([same], same, same, truth)
    assert check.problem("x") is None


# ---------------------------------------------------------------- which method


class ByConfiguration(stub_host.StubAdapter):
    def refined_of(self, encoder):
        return RefinedMethod(getattr(encoder, "carried_by", "forward"))


class TwoSteps(stub_host.StubEncoder):
    carried_by = "updated"

    def updated(self, scene):
        return scene


def two_steps_class(calls_it: bool):
    class ModelWrapper(stub_host.make_wrapper_class(lightning.pytorch.LightningModule, TwoSteps)):
        def __init__(self):
            super().__init__()
            self.encoder.scene = self.encoder_scene

        def encoder_scene(self, output):
            return self.encoder.updated(output) if calls_it else output

    return ModelWrapper


class AfterUpdate(ByConfiguration):
    def context_of(self, call):
        return call.batch["context"]


@pytest.mark.parametrize("calls_it", [True, False])
def test_the_refined_method_follows_the_configuration_and_a_stage_without_it_is_said(tmp_path, calls_it):
    wrapper_class = two_steps_class(calls_it)
    with stub_host.plugged_in(wrapper_class, tmp_path, AfterUpdate, head="fixed") as said:
        model = wrapper_class()
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, limit_val_batches=1)
        trainer.fit(model, stub_host.loader(3), stub_host.loader(1))
        trainer.test(model, stub_host.loader(2), verbose=False)
    lines = [line for line in said if line.startswith("nothing was refined in")]
    if calls_it:
        assert not lines
    else:
        assert len(lines) == 3
        for start in ("in train: 3 step(s)", "in val: 1 step(s)", "in test: 2 step(s)"):
            assert any(start in line and "encoder's updated" in line and "refined_of" in line for line in lines)


def test_steps_of_the_warm_up_are_not_missed(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, warm_up_steps=10, refine="train") as said:
        stub_host.make_trainer(lightning.pytorch, tmp_path).fit(wrapper_class(), stub_host.loader(2))
    assert not any("nothing was refined" in line for line in said)


# ---------------------------------------------------------------- whose fault


class Misspelled(stub_host.StubAdapter):
    def with_gaussians(self, output, refined, cameras=None, call=NO_CALL):
        return self.with_scenes(output, refined)


def test_an_adapters_own_mistake_is_reported_as_that_with_its_line(tmp_path):
    with pytest.raises(PluginError) as caught:
        scored(tmp_path, stub_host.make_wrapper_class(lightning.pytorch.LightningModule), Misspelled)
    message = str(caught.value)
    assert "adapter 'stub' is at fault: 'Misspelled' object has no attribute 'with_scenes'" in message
    assert "test_calls.py:" in message and "in with_gaussians" in message


def test_an_adapter_of_another_version_is_told_what_to_change(monkeypatch):
    class Old(stub_host.StubAdapter):
        def gaussians(self, output, scenes):
            return super().gaussians(output, scenes)

    assert Old.without_call() == ["gaussians"] and HostAdapter.without_call() == []
    monkeypatch.setattr(session.registry, "choose", lambda name, start: (Old(), SimpleNamespace(root=".")))
    monkeypatch.setattr(Old, "problems", lambda self, checkout: [])
    with pytest.raises(PluginError, match=r"written for another version.*gaussians must take.*call=NO_CALL"):
        session.Session({}, ".").begin(nn.Module)
