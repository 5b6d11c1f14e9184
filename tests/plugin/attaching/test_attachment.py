"""The plugin on a small host: what is refined, what is left alone, what the host's training sees."""

import json
import math

import host_stubs
import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from plugin import stub_host

from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of

NAMESPACES = pytest.mark.parametrize("namespace", [lightning.pytorch, pytorch_lightning], ids=lambda n: n.__name__)


def train(namespace, folder, plugin=True, steps=3, **settings):
    """A model trained for a few steps with or without the plugin, and its trainer."""
    wrapper_class = stub_host.make_wrapper_class(namespace.LightningModule)
    torch.manual_seed(1)

    def run():
        model = wrapper_class(names_decide=settings.pop("names_decide", False))
        trainer = stub_host.make_trainer(namespace, folder, max_steps=steps)
        trainer.fit(model, stub_host.loader(steps))
        return model, trainer

    if not plugin:
        return run()
    names_decide = settings.pop("names_decide", False)
    with stub_host.plugged_in(wrapper_class, folder, **settings):
        settings["names_decide"] = names_decide
        return run()


@NAMESPACES
def test_training_refines_and_trains_the_head(namespace, tmp_path):
    model, trainer = train(namespace, tmp_path)
    attachment = attachment_of(model)
    head = dict(attachment.head.modules["head"].named_parameters())
    assert (head["log_base"] - torch.tensor([0.1, 0.1, 0.1, 1.0, 1.0])[: len(head["log_base"])].log()).abs().max() > 0
    assert model.encoder.calls == 3, "the encoder is called once a step: some hosts' graphs allow no more"
    logged = trainer.callback_metrics
    for name in ("psnr_context", "psnr_target"):
        assert logged[f"diff3r/{name}_after"] > logged[f"diff3r/{name}_before"]
    assert 0 < logged["diff3r/stationarity"] < 1 and logged["diff3r/fallbacks_total"] == 0


@NAMESPACES
def test_plugin_on_but_not_refining_is_bit_identical(namespace, tmp_path):
    plain, _ = train(namespace, tmp_path, plugin=False)
    other, _ = train(namespace, tmp_path, refine=[])
    assert plain.losses_seen == other.losses_seen
    for name, value in plain.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_refinement_changes_what_the_host_trains_on(tmp_path):
    plain, _ = train(lightning.pytorch, tmp_path, plugin=False)
    refined, _ = train(lightning.pytorch, tmp_path)
    assert all(r < p for r, p in zip(refined.losses_seen, plain.losses_seen, strict=True))


def test_warm_up_steps_train_plainly(tmp_path):
    plain, _ = train(lightning.pytorch, tmp_path, plugin=False)
    late, _ = train(lightning.pytorch, tmp_path, warm_up_steps=2)
    assert late.losses_seen[:2] == plain.losses_seen[:2] and late.losses_seen[2] != plain.losses_seen[2]


def test_the_unrefined_scene_counts_as_much_as_asked(tmp_path):
    """The added gradient is the weight times that of the unrefined scene's squared error in the host's renderer."""

    def gradient(weight):
        wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
        torch.manual_seed(1)
        with stub_host.plugged_in(wrapper_class, tmp_path, unrefined_loss=weight):
            model = wrapper_class()
            loss = model.training_step(stub_host.batch(), 0)
            loss.backward()
            encoder = torch.cat([p.grad.flatten() for p in model.encoder.parameters()])
            return encoder, loss.detach(), model

    without, plain_loss, model = gradient(0.0)
    with_it, loss, _ = gradient(2.0)
    twice, _, _ = gradient(4.0)
    torch.testing.assert_close(twice - without, 2 * (with_it - without), rtol=1e-4, atol=1e-6)
    batch, adapter = stub_host.batch(), stub_host.StubAdapter()
    rendered = adapter.render_targets(model, model.encoder(batch["context"], 0), batch)
    error = ((rendered - adapter.target_images(batch)) ** 2).mean()
    torch.testing.assert_close(loss - plain_loss, 2 * error.detach(), rtol=1e-4, atol=1e-6)


def test_every_parameter_gets_a_gradient_even_when_nothing_is_refined(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, refine=["test"]):
        model = wrapper_class()
        loss = model.training_step(stub_host.batch(), 0)
        loss.backward()
        parameters = [*model.parameters(), *attachment_of(model).head.modules["head"].parameters()]
    assert all(parameter.grad is not None for parameter in parameters)
    assert all(not p.grad.any() for p in attachment_of(model).head.trained_parameters), "nothing was refined"
    assert loss.item() == model.losses_seen[-1], "the host's loss is its own"


class HalvingEncoder(stub_host.StubEncoder):
    """A host whose data shim makes another batch, as crops and rescaled images do."""

    @staticmethod
    def shim(batch):
        return {**batch, "target": {**batch["target"], "image": batch["target"]["image"] * 0.5}}


def test_scores_are_those_of_the_batch_that_the_host_works_with(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule, HalvingEncoder)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        model.training_step(stub_host.batch(), 0)
        logged = {}
        model.log = lambda name, value, **options: logged.setdefault(name, float(value))
        loss = model.training_step(stub_host.batch(), 0)
    assert logged["diff3r/psnr_target_after"] == pytest.approx(-10 * math.log10(loss.item()), abs=1.0)


def careful_step(self, epoch, batch_idx, optimizer, closure):
    """SPFSplat: no step where any gradient of any parameter is not finite or large; then its own clipping."""
    closure()
    gradients = [p.grad for _, p in self.named_parameters() if p.grad is not None]
    self.held_back = any(not gradient.isfinite().all() or gradient.abs().max() > 5 for gradient in gradients)
    if not self.held_back:
        self.norm = torch.nn.utils.clip_grad_norm_(self.parameters(), 0.5)
        optimizer.step()
    optimizer.zero_grad()


@NAMESPACES
@pytest.mark.parametrize("gradient", [math.nan, 1e6])
def test_a_gradient_of_the_head_does_not_decide_whether_the_host_steps(namespace, tmp_path, gradient):
    wrapper_class = stub_host.make_wrapper_class(namespace.LightningModule)
    wrapper_class.optimizer_step = careful_step
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        head = attachment_of(model).head
        for parameter in head.trained_parameters:
            parameter.register_hook(lambda g: torch.full_like(g, gradient))
        start = model.encoder.trunk.weight.clone()
        stub_host.make_trainer(namespace, tmp_path, max_steps=2).fit(model, stub_host.loader(2))
    assert not model.held_back and model.norm < 1e3
    assert not torch.equal(model.encoder.trunk.weight, start)
    assert head.optimizer.skipped == (2 if math.isnan(gradient) else 0)


@NAMESPACES
def test_a_step_that_the_host_skips_leaves_no_gradient_of_the_head(namespace, tmp_path):
    wrapper_class = stub_host.make_wrapper_class(namespace.LightningModule)
    seen = []

    def never_steps(self, epoch, batch_idx, optimizer, closure):
        closure()
        seen.append(torch.cat([p.grad.flatten() for p in attachment_of(self).head.trained_parameters]))
        for parameter in self.parameters():
            parameter.grad.zero_()

    wrapper_class.optimizer_step = never_steps
    with stub_host.plugged_in(wrapper_class, tmp_path):
        trainer = stub_host.make_trainer(namespace, tmp_path, max_steps=-1, max_epochs=1)
        trainer.fit(wrapper_class(), stub_host.loader(2, same=True))
    torch.testing.assert_close(seen[0], seen[1], msg="the second gradient does not hold the first one")


def test_data_parallel_training_averages_the_heads_gradients(tmp_path):
    """DDP goes through the modules, of which the head is one, though the model's own list of parameters lacks it."""
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with stub_host.plugged_in(wrapper_class, tmp_path):
            model = wrapper_class()
            averaged, _ = torch.nn.parallel.DistributedDataParallel(model)._build_params_for_reducer()
    finally:
        torch.distributed.destroy_process_group()
    assert {id(p) for p in attachment_of(model).head.trained_parameters} <= {id(p) for p in averaged}
    assert not any("diff3r" in name for name, _ in model.named_parameters())
    assert not any("diff3r" in name for name, _ in model.named_parameters(prefix="host"))
    assert len(list(model.parameters())) == 4


def test_scores_are_there_though_the_hosts_own_end_of_the_test_fails(tmp_path):
    """SPFSplat asks NumPy for a function that is gone."""
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)

    def on_test_end(self):
        raise AttributeError("numpy has no attribute 'trapz'")

    wrapper_class.on_test_end = on_test_end
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model = wrapper_class()
        with pytest.raises(AttributeError, match="trapz"):
            stub_host.make_trainer(lightning.pytorch, tmp_path).test(model, stub_host.loader(1), verbose=False)
    assert len(json.loads((tmp_path / "diff3r_scores.json").read_text())["scenes"]) == 2


def test_the_hosts_optimizer_never_sees_the_head(tmp_path):
    model, trainer = train(lightning.pytorch, tmp_path, names_decide=True)
    assert not any("diff3r" in name for name in model.optimized)
    (optimizer,) = trainer.optimizers
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in attachment_of(model).head.modules["head"].parameters()}


def test_the_head_follows_the_larger_rate_of_a_host_that_sorts_by_name(tmp_path):
    model, trainer = train(lightning.pytorch, tmp_path, names_decide=True, head_lr_multiplier=3.0)
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates[0] > rates[1]
    assert attachment_of(model).head.optimizer.learning_rate == pytest.approx(3 * rates[0])


def test_fixed_weights_need_no_head(tmp_path):
    model, _ = train(lightning.pytorch, tmp_path, head="fixed", weights={"means": 2.0})
    attachment = attachment_of(model)
    assert attachment.head.modules == {} and attachment.refiner.weights.fixed.means == 2.0
    assert not any("diff3r" in name for name, _ in model.named_parameters())


@NAMESPACES
def test_evaluation_in_inference_mode(namespace, tmp_path):
    wrapper_class = stub_host.make_wrapper_class(namespace.LightningModule)
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, tmp_path, save_pictures=True, save_ply=True, inner_steps=4):
        model = wrapper_class()
        trainer = stub_host.make_trainer(namespace, tmp_path, inference_mode=True)
        metrics = trainer.validate(model, stub_host.loader(1), verbose=False)[0]
        tested = trainer.test(model, stub_host.loader(2), verbose=False)[0]
    assert tested["diff3r/test/psnr_after"] > tested["diff3r/test/psnr_before"]
    assert metrics["diff3r/val/psnr_target_after"] > metrics["diff3r/val/psnr_target_before"]
    scores = json.loads((tmp_path / "diff3r_scores.json").read_text())
    assert [entry["scene"] for entry in scores["scenes"]] == ["scene0_0", "scene0_1", "scene1_0", "scene1_1"]
    for entry in scores["scenes"]:
        assert entry["after"]["psnr_context"] > entry["before"]["psnr_context"]
        assert entry["energy"][-1] <= entry["energy"][0] and entry["outcome"] == "refined"
        assert entry["renderer_agreement_psnr"] > 60
    seconds = sum(entry["seconds"] for entry in scores["scenes"])
    assert seconds / 2 == pytest.approx(tested["diff3r/test/seconds"], rel=1e-4), "a scene's share of its batch's"
    assert scores["mean"]["psnr"]["gain"]["mean"] > 0 and scores["head_from_checkpoint"] is False
    folder = tmp_path / "diff3r" / "scene0_0"
    assert {"context_0.png", "target_1_after.png", "weight_means_0.png", "weight_ranges.json", "after.ply"} <= {
        path.name for path in folder.iterdir()
    }
    maps = torch.load(folder / "maps.pt", weights_only=True)["weights"]["means"]
    ranges = json.loads((folder / "weight_ranges.json").read_text())["means"]
    assert maps.shape == (host_stubs.V, host_stubs.H, host_stubs.W)
    assert float(maps.min()) == pytest.approx(ranges["least"])


@pytest.mark.parametrize(("step", "alone"), [("training_step", False), ("validation_step", True)])
def test_validation_waits_for_no_other_rank(tmp_path, step, alone):
    """Hosts validate on the first rank only: a logger that gathers figures there would wait for ever."""
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model, logged = wrapper_class(), {}
        model.log = lambda name, value, **options: logged.setdefault(name, options)
        getattr(model, step)(stub_host.batch(), 0)
    own = [options["rank_zero_only"] for name, options in logged.items() if name.startswith("diff3r/")]
    assert own and set(own) == {alone}


def test_a_warning_is_given_once_in_many_steps(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, stationarity_warning=1e-9) as said:
        stub_host.make_trainer(lightning.pytorch, tmp_path).fit(wrapper_class(), stub_host.loader(3))
    assert sum("may be wrong, even in sign" in line for line in said) == 1


def test_an_adapter_that_misreads_the_cameras_is_found_out(tmp_path, monkeypatch):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path) as said:
        model = wrapper_class()
        right = attachment_of(model).context.adapter.context_views

        def shifted(wrapper, context, output, call):
            views = right(wrapper, context, output, call)
            moved = views.world_to_camera.clone()
            moved[..., 0, 3] += 0.3
            return views.replace(world_to_camera=moved)

        attachment_of(model).context.adapter.context_views = shifted
        stub_host.make_trainer(lightning.pytorch, tmp_path).test(model, stub_host.loader(1), verbose=False)
    assert any("differs from the host's own" in line and "adapter 'stub'" in line for line in said)


@pytest.mark.parametrize("refine_extra", [False, True])
def test_videos_are_left_alone_unless_asked_for(tmp_path, refine_extra):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, refine_extra=refine_extra):
        model = wrapper_class()
        stub_host.make_trainer(lightning.pytorch, tmp_path).validate(model, stub_host.loader(1), verbose=False)
        unrefined = model.encoder.forward(stub_host.batch()["context"])  # outside of a step: never refined
    assert torch.equal(model.video_scene.means, unrefined.means) is not refine_extra


def test_images_outside_their_range_stop_the_run(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path):
        model, batch = wrapper_class(), stub_host.batch()
        batch["context"]["image"] = batch["context"]["image"] * 2 - 1
        with pytest.raises(PluginError, match=r"must lie in \[0, 1\].*-0\.\d+"):
            model.training_step(batch, 0)


def test_a_backend_that_cannot_work_stops_before_training(tmp_path, monkeypatch):
    def refuse(name, device):
        raise ValueError("not available here")

    monkeypatch.setattr("diff3r_plugin.plugin.refining.refiner.resolve_backend", refuse)
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, backend="native"):
        with pytest.raises(PluginError, match=r"diff3r\.backend=native: not available here"):
            wrapper_class()


def test_a_broken_scene_falls_back_and_is_counted(tmp_path):
    torch.manual_seed(1)
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, inner_steps=4) as said:
        model = wrapper_class()
        model.encoder.trunk.register_forward_hook(corrupt_first_scene)
        model.training_step(stub_host.batch(), 0)
    assert attachment_of(model).reporter.fallbacks == 1
    assert any("initial Gaussians" in line and "invalid_gaussians" in line for line in said)


def corrupt_first_scene(module, inputs, output):
    output = output.clone()
    output[0] = math.nan
    return output


def test_reverting_restores_the_class():
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    before = dict(vars(wrapper_class))
    with stub_host.plugged_in(wrapper_class):
        assert vars(wrapper_class)["training_step"] is not before["training_step"]
    assert dict(vars(wrapper_class)) == before
