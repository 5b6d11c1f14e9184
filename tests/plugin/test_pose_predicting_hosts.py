"""A host in SPFSplat's shape: it predicts the poses of all views, and calls its encoder once a target view at test."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import lightning.pytorch
import pytest
import torch
from plugin import stub_host
from torch import Tensor, nn

from diff3r_adapters.pixelsplat_family import PixelSplatFamily
from diff3r_adapters.spfsplat import SPFSplat
from diff3r_plugin.metrics import psnr
from diff3r_plugin.plugin import Call, PluginError
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of
from diff3r_plugin.render import render


@dataclass
class ScaledGaussians:
    means: Tensor
    covariances: Tensor
    rotations: Tensor
    scales: Tensor
    harmonics: Tensor
    opacities: Tensor


class PosePredictingEncoder(stub_host.StubEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor([0.04, 0.0, 0.0]))

    def forward(self, context, global_step=0, visualization_dump=None, target=None):
        plain = super().forward(context)
        size = plain.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
        quats = torch.tensor([1.0, 0, 0, 0]).expand(*size.shape[:2], 4)
        # as in SPFSplat, what the covariances say is never rendered
        scene = ScaledGaussians(plain.means, plain.covariances * 9, quats, size, plain.harmonics, plain.opacities)
        b, v = context["image"].shape[:2]
        total = v + (0 if target is None else target["image"].shape[1])
        poses = torch.eye(4).repeat(b, total, 1, 1)
        translated = poses[..., :3, 3] + self.offset * (torch.arange(total) > 0)[:, None]
        poses = torch.cat([torch.cat([poses[..., :3, :3], translated[..., None]], -1), poses[..., 3:, :]], -2)
        predicted = {"c": poses[:, :v]} if target is None else {"c": poses[:, :v], "cwt": poses}
        return {"gaussians": scene, "extrinsics": predicted}


class Adapter(SPFSplat):
    name = "stub"
    tap = None

    def scores_folder(self, wrapper, config):
        return self.folder


class Decoder(stub_host.StubDecoder):
    def forward(self, gaussians, extrinsics, intrinsics, near, far, image_shape):
        cameras = {"extrinsics": extrinsics, "intrinsics": intrinsics, "near": near}
        cameras["image"] = torch.zeros(*near.shape, 3, *image_shape)
        views = PixelSplatFamily.context_views(Adapter(), SimpleNamespace(decoder=self), cameras, None)
        return stub_host.Decoded(render(Adapter().gaussians({"gaussians": gaussians}, len(near)), views))


def make_wrapper_class():
    class ModelWrapper(stub_host.make_wrapper_class(lightning.pytorch.LightningModule, PosePredictingEncoder)):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.tested = Decoder(), []

        def rendered(self, context, target):
            output = self.encoder(context, self.global_step, visualization_dump={}, target=target)
            self.seen = output
            poses = output["extrinsics"]["cwt"][:, context["image"].shape[1] :]
            shape = target["image"].shape[-2:]
            cameras = (target[name] for name in ("intrinsics", "near", "far"))
            return self.decoder.forward(output["gaussians"], poses, *cameras, shape).color

        def forward_loss(self, batch):
            return (self.rendered(batch["context"], batch["target"]) - batch["target"]["image"]).square().mean()

        def test_step(self, batch, batch_idx):
            target, colors = batch["target"], []
            for view in range(target["image"].shape[1]):
                one = {n: target[n][:, view : view + 1] for n in ("image", "intrinsics", "near", "far")}
                colors.append(self.rendered(batch["context"], one))
            self.tested.append(psnr(target["image"], torch.cat(colors, 1)).mean(-1))

    return ModelWrapper


def test_training_moves_scene_and_cameras_and_reaches_the_predicted_poses(tmp_path):
    wrapper_class = make_wrapper_class()
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, tmp_path, Adapter):
        model = wrapper_class()
        plain = model.encoder(stub_host.batch()["context"], 0, target=stub_host.batch()["target"])
        loss = model.training_step(stub_host.batch(), 0)
        after = model.seen
        model.encoder.zero_grad()
        # the cameras of the targets are the network's own; take their part away, and the refinement's remains
        (after["gaussians"].means.square().sum() + after["extrinsics"]["cwt"][:, 1].sum()).backward()
    assert model.encoder.offset.grad.abs().sum() > 0 and loss.isfinite()
    before = plain["extrinsics"]["cwt"]
    moved = (after["extrinsics"]["cwt"] - before).abs().amax((-2, -1))
    assert (moved[:, 1] > 1e-5).all(), "the second context view moved"
    assert (moved[:, [0, 2, 3]] < 1e-6).all(), "the first one and the target views did not"
    assert not torch.allclose(after["gaussians"].means, plain["gaussians"].means)


def test_every_call_of_a_test_counts(tmp_path, capsys):
    wrapper_class = make_wrapper_class()
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, tmp_path, Adapter, inner_steps=4, save_pictures=True) as said:
        model = wrapper_class()
        stub_host.make_trainer(lightning.pytorch, tmp_path).test(model, stub_host.loader(1), verbose=False)
    scores = json.loads((tmp_path / "diff3r_scores.json").read_text())
    assert scores["context_poses"] == "predicted" and not said
    assert [entry["scene"] for entry in scores["scenes"]] == ["scene0_0", "scene0_1"]
    for index, entry in enumerate(scores["scenes"]):
        assert len(entry["calls"]) == 2, "one a target view"
        assert entry["after"]["psnr"] == pytest.approx(model.tested[0][index].item(), abs=1e-3), "the host's own figure"
        mean = sum(call["before"]["psnr"] for call in entry["calls"]) / 2
        assert entry["before"]["psnr"] == pytest.approx(mean)
        assert entry["renderer_agreement_psnr"] > 90 and entry["after"]["psnr"] > entry["before"]["psnr"]
        assert entry["seconds"] == pytest.approx(sum(call["seconds"] for call in entry["calls"]))
        assert "pose_rotation_error_after" in entry
    assert "predicted by the host, then refined" in capsys.readouterr().out
    assert {"scene0_0", "scene0_0_2"} <= {path.name for path in (tmp_path / "diff3r").iterdir()}


@pytest.mark.parametrize("source", ["batch", "predicted"])
def test_the_poses_of_the_data_on_request(tmp_path, source):
    wrapper_class = make_wrapper_class()
    with stub_host.plugged_in(wrapper_class, tmp_path, Adapter, context_poses=source):
        model = wrapper_class()
        seen, refiner = [], attachment_of(model).refiner
        for layer in (refiner.layer, refiner.layer_with_poses):
            layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[1]))
        model.training_step(stub_host.batch(), 0)
    x = -seen[0].world_to_camera[:, 1, 0, 3]
    torch.testing.assert_close(x, torch.full_like(x, 0.05 if source == "batch" else 0.04))


def test_a_list_of_batches_is_one_batch_of_scenes():
    context, target = {"image": torch.zeros(2, 2, 3, 6, 8)}, {"image": torch.zeros(2, 1, 3, 6, 8)}
    batches = [{"scene": ["a"], "target": None}, {"scene": ["b"], "target": None}]
    found = Adapter().batch_of_call(Call(None, (context, 0), {"target": target}, batches))
    assert found["scene"] == ["a", "b"] and found["context"] is context and found["target"] is target


def test_predicted_poses_are_refused_where_there_are_none(tmp_path):
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, context_poses="predicted"):
        with pytest.raises(PluginError, match="predicted does not fit adapter 'stub': its host predicts no poses"):
            wrapper_class()
