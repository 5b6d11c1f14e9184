"""Hosts that evaluate a running mean of their model's weights: the mean is refined, and trained by nobody."""

import copy
import json
import sys
from pathlib import Path

import lightning.pytorch
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging
from plugin import stub_host
from plugin.plain_loop_host import adapter_class
from torch.utils.data import DataLoader

from diff3r_plugin.plugin.attaching.attachment import attachment_of
from diff3r_plugin.plugin.refining.step import Step


class Mean:
    """As ema_pytorch keeps it: a copy in whatever mode the model was, written to behind autograd's back."""

    def __init__(self, model, how):
        self.model = model
        self.copy = copy.deepcopy(model) if how == "copied" else type(model)()
        if how == "built":
            self.copy.load_state_dict(model.state_dict())

    def update(self):
        for own, other in zip(self.copy.parameters(), self.model.parameters(), strict=True):
            own.data.lerp_(other.data, 0.5)


@pytest.fixture(params=["copied", "built"])
def how(request):
    return request.param


def batches(split, count=4):
    return DataLoader(sys.modules["network"].Scenes(split, count), batch_size=2)


def trained(model, steps=2, mean=None, teacher=None):
    """Some steps of a training, in which a teacher may predict before the model does."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for batch in batches("train", 2 * steps):
        if teacher is not None:
            with torch.no_grad():
                teacher(batch)
        (model(batch) - batch["target"]["image"]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if mean is not None:
            mean.update()
    return optimizer


def head(model):
    return attachment_of(model).head.modules["head"].state_dict()


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return list(one) == list(other) and all(torch.equal(value, other[name]) for name, value in one.items())


def metrics(stage):
    path = Path("diff3r_metrics.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    name = {"train": "diff3r/stationarity", "val": "diff3r/val/psnr_target_after"}[stage]
    return [line for line in lines if name in line]


def scores(folder="."):
    return json.loads((Path(folder) / "diff3r_scores.json").read_text())


def test_it_is_refined_in_validation_by_the_head_of_the_model(plugged_in, how):
    plugged_in()
    model = sys.modules["network"].Network()
    mean = Mean(model, how)
    trained(model, mean=mean)
    first = head(model)
    weights = values(mean.copy)
    model.eval()
    with torch.no_grad():
        for batch in batches("val"):
            mean.copy(batch)
    line = metrics("val")[0]
    assert line["diff3r/val/psnr_target_after"] > line["diff3r/val/psnr_target_before"] + 1
    assert line["step"] == 2, "those of the model that is trained"
    assert same(head(mean.copy), head(model)) and same(first, head(model)) and same(weights, values(mean.copy))


def test_its_head_follows_while_the_training_goes_on(plugged_in, how):
    plugged_in()
    model = sys.modules["network"].Network()
    mean = Mean(model, how)
    seen = []
    for _ in range(2):
        trained(model, mean=mean)
        for batch in batches("val"):  # the model is in training mode all the while
            mean.copy(batch)
        seen.append({name: value.clone() for name, value in head(mean.copy).items()})
        assert same(seen[-1], head(model))
    assert not same(*seen) and len(metrics("val")) == 4


def test_nothing_trains_it(plugged_in, how):
    plugged_in()
    model = sys.modules["network"].Network()
    mean = Mean(model, how)
    optimizer = trained(model, mean=mean)
    for batch in batches("val"):  # with gradients, as a careless host does
        mean.copy(batch)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in mean.copy.parameters()}
    attached = attachment_of(mean.copy)
    assert attached.head.optimizer is None
    assert all(p.grad is None for p in [*mean.copy.parameters(), *attached.head.trained_parameters])
    assert not any("diff3r" in name for name, _ in mean.copy.named_parameters())
    assert list(mean.copy.state_dict()) == list(model.state_dict())


def test_a_teacher_in_a_step_of_the_training_is_left_alone(plugged_in, how):
    plugged_in()
    model = sys.modules["network"].Network()
    mean = Mean(model, how)
    mean.copy.eval()
    trained(model, mean=mean, teacher=mean.copy)
    assert len(metrics("train")) == 2 and not metrics("val") and not Path("diff3r_scores.json").exists()


def test_it_is_tested_and_saved_with_the_head_of_the_run(plugged_in, how):
    plugged_in()
    model = sys.modules["network"].Network()
    mean = Mean(model, how)
    trained(model, mean=mean)
    model.eval()
    with torch.inference_mode():
        for batch in batches("test"):
            mean.copy(batch)
    in_the_program = scores()["mean"]["psnr"]["after"]["mean"]
    torch.save(mean.copy.state_dict(), "mean.pt")
    plugged_in()  # as in another process
    loaded = sys.modules["network"].Network().eval()
    loaded.load_state_dict(torch.load("mean.pt", weights_only=True))
    assert same(head(loaded), head(model))
    with torch.inference_mode():
        for batch in batches("test"):
            loaded(batch)
    assert scores()["mean"]["psnr"]["after"]["mean"] == pytest.approx(in_the_program, abs=1e-4)
    assert scores()["head_from_checkpoint"]


def test_a_snapshot_keeps_the_head_it_was_taken_with(plugged_in):
    plugged_in()
    model = sys.modules["network"].Network()
    trained(model)
    best, then = copy.deepcopy(model), {name: value.clone() for name, value in head(model).items()}
    trained(model)
    model.eval()
    with torch.inference_mode():
        for batch in batches("test"):
            best(batch)
    assert same(head(best), then) and not same(then, head(model))
    other = sys.modules["network"].Network()
    other.load_state_dict(best.state_dict())
    assert same(head(other), then)


def test_a_mean_of_a_mean_has_the_head_of_the_run(plugged_in):
    plugged_in()
    model = sys.modules["network"].Network()
    mean = Mean(model, "copied")
    trained(model, mean=mean)
    other = sys.modules["network"].Network()
    other.load_state_dict(copy.deepcopy(mean.copy).state_dict())
    assert same(head(other), head(model)), "a host keeps its best mean"


def test_a_copy_that_is_trained_is_a_model_like_another(plugged_in):
    plugged_in()
    pretrained = sys.modules["network"].Network()
    model = copy.deepcopy(pretrained)
    start = {name: value.clone() for name, value in head(pretrained).items()}
    trained(model, teacher=pretrained.eval())
    assert len(metrics("train")) == 2 and not same(head(model), start) and same(head(pretrained), start)


def test_where_the_mode_alone_tells_the_stage_it_is_left_alone_and_that_is_said_once(plugged_in, how):
    class ByItsMode(adapter_class()):
        stage = adapter_class().__mro__[1].stage

    said = plugged_in(ByItsMode())
    model = sys.modules["network"].Network()
    mean = Mean(model, how)
    trained(model, mean=mean, teacher=mean.copy)
    told = [line for line in said if "Give it a `stage` that tells by the loader" in line]
    assert len(told) == 1 and not Path("diff3r_scores.json").exists()
    model.eval()
    with torch.no_grad():
        for batch in batches("test"):
            mean.copy(batch)
    assert len(scores()["scenes"]) == 4


def test_where_both_are_tested_each_has_its_scores(plugged_in, how):
    plugged_in()
    model = sys.modules["network"].Network()
    mean = Mean(model, how)
    trained(model, mean=mean)
    model.eval()
    with torch.inference_mode():
        for batch in batches("test"):
            model(batch), mean.copy(batch)
    before = [scores(folder)["mean"]["psnr"]["before"]["mean"] for folder in (".", "model_2")]
    assert len(scores("model_2")["scenes"]) == 4 and before[0] != before[1]


def test_nothing_refined_is_bit_identical(host, plugged_in, how):
    def run():
        torch.manual_seed(0)
        model = sys.modules["network"].Network()
        mean = Mean(model, how)
        trained(model, mean=mean)
        with torch.no_grad():
            return values(mean.copy), [mean.copy(batch) for batch in batches("val")]

    plain, images = run()
    plugged_in(refine=[])
    other, others = run()
    assert same(plain, other) and all(torch.equal(*pair) for pair in zip(images, others, strict=True))


def test_an_interrupted_test_with_a_copy_starts_anew(plugged_in):
    def evaluation(count):
        model = sys.modules["network"].Network().eval()
        mean = copy.deepcopy(model)
        with torch.inference_mode():
            for batch, _ in zip(batches("test"), range(count), strict=False):
                mean(batch)
                yield batch["name"]

    plugged_in()
    broken_off = evaluation(2)
    assert [next(broken_off) for _ in range(2)] == [["test0", "test1"], ["test2", "test3"]]
    plugged_in()  # as in another process
    assert len(list(evaluation(9))) == 2 and len(scores()["scenes"]) == 4


def with_a_mean():
    """A LightningModule that keeps a mean of its encoder from its beginning, or from that of its training."""

    class Wrapper(stub_host.make_wrapper_class(lightning.pytorch.LightningModule)):
        def __init__(self, late):
            super().__init__()
            if not late:
                self.mean = copy.deepcopy(self.encoder)

        def on_fit_start(self):
            if not hasattr(self, "mean"):
                self.mean = copy.deepcopy(self.encoder)

        def on_train_batch_end(self, *_):
            with torch.no_grad():
                for own, other in zip(self.mean.parameters(), self.encoder.parameters(), strict=True):
                    own.lerp_(other, 0.5)

        def forward_loss(self, batch):
            if self.training:
                with torch.no_grad():
                    self.mean(batch["context"])  # a teacher
                return super().forward_loss(batch)
            trained, self.encoder = self.encoder, self.mean
            try:
                return super().forward_loss(batch)
            finally:
                self.encoder = trained

        def configure_optimizers(self):
            return torch.optim.Adam(self.encoder.parameters(), lr=1e-3)

    return Wrapper


class ToldOfTheMean(stub_host.StubAdapter):
    def encoder_copies(self, wrapper):
        return [wrapper.mean] if hasattr(wrapper, "mean") else []


@pytest.mark.parametrize("late", [False, True])
def test_an_encoders_mean_within_the_model_is_refined_where_the_adapter_names_it(tmp_path, late):
    wrapper_class = with_a_mean()
    with stub_host.plugged_in(wrapper_class, tmp_path, ToldOfTheMean):
        model = wrapper_class(late)
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, val_check_interval=3)
        trainer.fit(model, stub_host.loader(3), stub_host.loader(1))
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert logged["diff3r/val/psnr_target_after"] > logged["diff3r/val/psnr_target_before"]
        own = head(model)
        trainer.test(model, stub_host.loader(2), verbose=False)
        assert same(own, head(model)) and all(p.grad is None for p in model.mean.parameters())
    found = json.loads((tmp_path / "diff3r_scores.json").read_text())["mean"]["psnr"]
    assert found["after"]["mean"] > found["before"]["mean"]


def test_features_for_the_head_are_those_of_the_mean(tmp_path):
    wrapper_class = with_a_mean()
    with stub_host.plugged_in(wrapper_class, tmp_path, ToldOfTheMean):
        model = wrapper_class(False)
        attached = attachment_of(model)
        attached.take_in_copies(), attached.take_in_copies()
        (patch,) = [patch for patch in attached.patches if patch.owner is model.mean]
        refiner = patch.make.keywords["refiner"]
        model.encoder(stub_host.batch()["context"])
        assert not refiner.tap._kept
        model.mean(stub_host.batch()["context"])
        assert len(refiner.tap._kept) == 1 and refiner.weights is attached.refiner.weights
        steps = [Step(stage, stub_host.batch()) for stage in ("train", "val", "test")]
        for step in steps:
            with attached.calls.within(step), torch.no_grad():
                model.mean(step.batch["context"])
        assert [len(step.calls) for step in steps] == [0, 1, 1], "one that teaches is left alone"


def test_lightnings_own_mean_is_evaluated_by_the_model_itself_and_refined(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        options = {"val_check_interval": 3, "callbacks": [WeightAveraging()], "enable_checkpointing": True}
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, **options)
        trainer.fit(model, stub_host.loader(3), stub_host.loader(1))
        assert trainer.callback_metrics["diff3r/val/psnr_target_after"] > 0
        trainer.save_checkpoint(tmp_path / "mean.ckpt")
        learned = head(model)
    stored = torch.load(tmp_path / "mean.ckpt", weights_only=False)
    assert same(stored["diff3r"]["head"], learned) and not any("diff3r" in name for name in stored["state_dict"])
    plain = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)()
    plain.load_state_dict(stored["state_dict"])
