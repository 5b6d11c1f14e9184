"""Hosts whose one ``forward`` predicts, renders and computes a loss: the scene is in a method's result or arguments."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from plugin import stub_host

from diff3r_plugin import Gaussians, Views
from diff3r_plugin.plugin import NO_CALL, HostAdapter, PluginError, RefinedMethod, Tap
from diff3r_plugin.plugin.attaching.loop_patches import loop_patches
from diff3r_plugin.plugin.attaching.patching import Patches
from diff3r_plugin.render import render

NETWORK = Path(__file__).parents[1] / "plain_host" / "network.py"
NAMES = ("means", "scales", "quats", "opacities", "harmonics")


@pytest.fixture
def network(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("network", NETWORK)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "network", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model_class(network):
    class Reconstruction(torch.nn.Module):
        """A large reconstruction model's shape: everything within one forward."""

        def __init__(self):
            super().__init__()
            self.layers = network.Encoder()

        def predicted(self, images):
            return self.layers({"image": images})

        def draw(self, means, scales, quats, opacities, harmonics, cameras, intrinsics, size=(network.H, network.W)):
            scene = Gaussians.from_scales(means, scales, quats, opacities, harmonics)
            return render(scene, Views(cameras, intrinsics, near=0.1, image_size=size))

        def forward(self, batch):
            scene, target = self.predicted(batch["context"]["image"]), batch["target"]
            image = self.draw(*(scene[name] for name in NAMES), target["cameras"], intrinsics=target["intrinsics"])
            return {"loss": (image - target["image"]).square().mean()}

    return Reconstruction


class OfOneForward(HostAdapter):
    name = "of_one_forward"
    lightning, hydra = False, False
    wrapper = "network:Reconstruction"
    fingerprints = ("network.py",)

    def encoder(self, wrapper):
        return wrapper

    def context_of(self, call):  # neither method is given the context's cameras
        return call.batch["context"]

    def context_views(self, wrapper, context, output, call=NO_CALL):
        return Views(context["cameras"], context["intrinsics"], context["image"], near=0.1)

    def gaussians(self, output, scenes, call=NO_CALL):
        return Gaussians.from_scales(*(output[name] for name in NAMES))

    def with_gaussians(self, output, refined, cameras=None, call=NO_CALL):
        return {**output, **{name: getattr(refined, name) for name in NAMES}}

    def target_images(self, batch):
        return batch["target"]["image"]

    def render_targets(self, wrapper, output, batch, call=NO_CALL):
        target = batch["target"]
        drawn = type(wrapper).draw  # not the instance's, which refines
        return drawn(wrapper, *(output[name] for name in NAMES), target["cameras"], target["intrinsics"])

    def scene_names(self, batch):
        return batch["name"]

    def stage(self, model, loader):
        return "train" if model.training else loader.dataset.split


class ByResult(OfOneForward):
    refined = RefinedMethod("predicted")


class ByArguments(OfOneForward):
    refined = RefinedMethod("draw", "input")
    tap = Tap(("layers.to_gaussians",), "input", "(b v) c h w")


@pytest.fixture
def plugged_in(model_class):
    patches = Patches()

    def begin(adapter, **settings):
        patches.revert()
        context = stub_host.run_context(adapter(), lambda line: None, **{"log_every": 1, **settings})
        for patch in loop_patches(context, model_class):
            patches.apply(patch)

    yield begin
    patches.revert()


def trained_and_tested(network, model_class):
    torch.manual_seed(0)
    model = model_class()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for batch in torch.utils.data.DataLoader(network.Scenes("train"), batch_size=2):
        loss = model(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.inference_mode():
        for batch in torch.utils.data.DataLoader(network.Scenes("test"), batch_size=2):
            losses.append(model(batch)["loss"].item())
    return losses


@pytest.mark.parametrize("adapter", [ByResult, ByArguments])
def test_it_is_refined_in_training_and_test(network, model_class, plugged_in, adapter):
    plain = trained_and_tested(network, model_class)
    plugged_in(adapter)
    refined = trained_and_tested(network, model_class)
    assert all(with_it < without for with_it, without in zip(refined, plain, strict=True))
    scores = json.loads(Path("diff3r_scores.json").read_text())
    assert len(scores["scenes"]) == 4
    assert scores["mean"]["psnr"]["after"]["mean"] > scores["mean"]["psnr"]["before"]["mean"] + 1
    assert min(scene["renderer_agreement_psnr"] for scene in scores["scenes"]) > 60


@pytest.mark.parametrize("adapter", [ByResult, ByArguments])
def test_nothing_refined_is_bit_identical(network, model_class, plugged_in, adapter):
    plain = trained_and_tested(network, model_class)
    plugged_in(adapter, refine=[])
    assert trained_and_tested(network, model_class) == plain


def test_a_method_that_is_not_there_is_said_when_the_model_is_built(model_class, plugged_in):
    class Misspelled(OfOneForward):
        refined = RefinedMethod("predikted")

    plugged_in(Misspelled)
    with pytest.raises(PluginError, match=r"Reconstruction has no method 'predikted', which adapter 'of_one_forward'"):
        model_class()


def test_a_side_that_there_is_not():
    with pytest.raises(ValueError, match="side must be 'input' or 'output', got 'inputs'"):
        RefinedMethod("draw", "inputs")


def test_scenes_without_names_are_named_by_their_images_alike_in_every_run(network):
    class Nameless(OfOneForward):
        scene_names = HostAdapter.scene_names

    batch = torch.utils.data.default_collate([network.Scenes("test")[i] for i in range(3)])
    names = Nameless().scene_names(batch)
    assert len(set(names)) == 3 and names == Nameless().scene_names(batch)
    assert Nameless().scene_names({**batch, "scene": ["a", "b", "c"]}) == ["a", "b", "c"]
