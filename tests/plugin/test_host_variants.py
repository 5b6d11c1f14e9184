"""Peculiarities of hosts, one at a time, through training, validation and test of a small host.

Each variant mimics what one host of the family does, so that it is tested where there is no checkout.
"""

import dataclasses
import json

import host_stubs as stub
import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from plugin import stub_host
from plugin.stub_host import StubAdapter, StubEncoder

from diff3r_adapters.hisplat import HiSplat
from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.plugin import NO_CALL, ViewChoice
from diff3r_plugin.plugin.attaching.wrapper_patches import attachment_of


class DictAdapter(StubAdapter):
    """DepthSplat: a dict with more than Gaussians in it."""

    def scene(self, output):
        return output["gaussians"]

    def with_scene(self, output, scene):
        return {**output, "gaussians": scene}


class DictEncoder(StubEncoder):
    def forward(self, *arguments):
        scene = super().forward(*arguments)
        return {"gaussians": scene, "depths": scene.means[..., 2]}

    def scene(self, output):
        assert set(output) == {"gaussians", "depths"}
        return output["gaussians"]


class TupleAdapter(StubAdapter):
    """HiSplat: a tuple of dicts."""

    def scene(self, output):
        return output[0]["last"]

    def with_scene(self, output, scene):
        return {**output[0], "last": scene}, *output[1:]


class TupleEncoder(StubEncoder):
    def forward(self, *arguments):
        return {"last": super().forward(*arguments)}, {"losses": []}

    def scene(self, output):
        stages, _ = output
        return stages["last"]


class PyramidAdapter(HiSplat):
    """HiSplat: Gaussians on grids of two resolutions, all of them in the last stage."""

    name, scale_invariant, e3nn_harmonics, folder = "stub", True, True, StubAdapter.folder
    scores_folder = StubAdapter.scores_folder

    def alignment(self, encoder):
        return PixelGrid(2), PixelGrid()


class PyramidEncoder(StubEncoder):
    def forward(self, *arguments):
        fine = super().forward(*arguments)

        def every_second(value):
            maps = value.unflatten(1, (stub.V, stub.H, stub.W))[:, :, ::2, ::2]
            return maps.flatten(1, 3)

        coarse = {name: every_second(value) for name, value in vars(fine).items()}
        both = {name: torch.cat([coarse[name], value], 1) for name, value in vars(fine).items()}
        first, last = stub.HostGaussians(**coarse), stub.HostGaussians(**both)
        return {"stage0": {"gaussians": first, "depths": 0}, "stage1": {"gaussians": last, "depths": 1}}, {"stage0": {}}

    def scene(self, output):
        stages, _ = output
        assert set(stages["stage1"]) == {"gaussians", "depths"}
        return stages["stage1"]["gaussians"]


class CentersAdapter(StubAdapter):
    """ZPressor: Gaussians for some of the views, which the encoder chooses."""

    chosen_views = ViewChoice("zipmatch", 1)


class Chooser(torch.nn.Module):
    def forward(self, images):
        centers = torch.tensor([[1], [0]])  # another view for each scene
        return images[torch.arange(2)[:, None], centers], centers


class CentersEncoder(StubEncoder):
    def __init__(self):
        super().__init__()
        self.zipmatch = Chooser()

    def forward(self, context, *arguments):
        images, _ = self.zipmatch(context["image"])
        return super().forward({**context, "image": images}, *arguments)


class UnalignedAdapter(StubAdapter):
    """AnySplat: one Gaussian for every voxel that anything fell into, and padding."""

    def alignment(self, encoder):
        return None


class MergingEncoder(StubEncoder):
    def forward(self, *arguments):
        scene = super().forward(*arguments)

        def pairs(value):
            merged = value.unflatten(1, (-1, 2)).mean(2)
            return torch.cat([merged, torch.zeros_like(merged[:, :5])], 1)

        return stub.HostGaussians(**{name: pairs(value) for name, value in vars(scene).items()})


class NormalizingAdapter(StubAdapter):
    """NoPoSplat: the context alone in [-1, 1], changed in place."""

    def context_images(self, context):
        return context["image"] * 0.5 + 0.5


class NormalizingEncoder(StubEncoder):
    def shim(self, batch):
        batch["context"]["image"] = batch["context"]["image"] * 2 - 1
        return batch

    def forward(self, context, *arguments):
        assert context["image"].min() < 0
        return super().forward({**context, "image": context["image"] * 0.5 + 0.5}, *arguments)


class ThreefoldAdapter(StubAdapter):
    """pixelSplat: three samples a pixel, one when asked for a deterministic answer."""

    def gaussians_per_pixel(self, encoder):
        return 3


class ThreefoldEncoder(StubEncoder):
    def forward(self, *arguments):
        scene = super().forward(*arguments)
        apart = torch.tensor([0.0, 0.1, 0.2]).repeat(scene.means.shape[1])[:, None]
        repeated = {name: value.repeat_interleave(3, 1) for name, value in vars(scene).items()}
        return stub.HostGaussians(
            **{**repeated, "means": repeated["means"] * (1 + apart), "opacities": repeated["opacities"] / 3}
        )


class IntermediateAdapter(StubAdapter):
    """DepthSplat in training: scenes of intermediate depths first, the final ones last."""

    def gaussians(self, output, scenes, call=NO_CALL):
        return super().gaussians(last(output, scenes), scenes)

    def with_gaussians(self, output, refined, cameras=None, call=NO_CALL):
        final = super().with_gaussians(last(output, refined.batch_size), refined)
        joined = {n: torch.cat([v[: -refined.batch_size], vars(final)[n]]) for n, v in vars(output).items()}
        return dataclasses.replace(output, **joined)

    def rendered(self, wrapper, output, cameras):
        return super().rendered(wrapper, last(output, len(cameras["near"])), cameras)


class IntermediateEncoder(StubEncoder):
    def forward(self, *arguments):
        scene = super().forward(*arguments)
        return dataclasses.replace(scene, **{n: torch.cat([v, v]) for n, v in vars(scene).items()})

    def scene(self, output):
        return last(output, stub.B)


class ForwardEncoder(StubEncoder):
    """pixelSplat's visualizer and others: ``encoder.forward(...)``, which fires no hooks."""

    called_by_forward = True


def last(scene, count):
    return dataclasses.replace(scene, **{name: value[-count:] for name, value in vars(scene).items()})


VARIANTS = {
    "dict": (DictEncoder, DictAdapter),
    "tuple": (TupleEncoder, TupleAdapter),
    "two grids": (PyramidEncoder, PyramidAdapter),
    "Gaussians of chosen views": (CentersEncoder, CentersAdapter),
    "Gaussians on no grid": (MergingEncoder, UnalignedAdapter),
    "images in [-1, 1]": (NormalizingEncoder, NormalizingAdapter),
    "three Gaussians a pixel": (ThreefoldEncoder, ThreefoldAdapter),
    "intermediate scenes": (IntermediateEncoder, IntermediateAdapter),
    "called by forward": (ForwardEncoder, StubAdapter),
}


@pytest.mark.parametrize("namespace", [lightning.pytorch, pytorch_lightning], ids=lambda n: n.__name__)
@pytest.mark.parametrize(("encoder", "adapter"), VARIANTS.values(), ids=VARIANTS)
def test_it_trains_validates_and_tests(namespace, encoder, adapter, tmp_path):
    wrapper_class = stub_host.make_wrapper_class(namespace.LightningModule, encoder)
    torch.manual_seed(1)
    with stub_host.plugged_in(wrapper_class, tmp_path, adapter, inner_steps=4) as said:
        model = wrapper_class(names_decide=True)
        trainer = stub_host.make_trainer(namespace, tmp_path)
        trainer.fit(model, stub_host.loader(3), stub_host.loader(1))
        logged = dict(trainer.callback_metrics)
        trainer.save_checkpoint(tmp_path / "plugin.ckpt")
        stub_host.make_trainer(namespace, tmp_path).test(
            wrapper_class(), stub_host.loader(1), ckpt_path=tmp_path / "plugin.ckpt", verbose=False
        )
    assert attachment_of(model).head.optimizer is not None
    assert not [line for line in said if "differs from" in line or "initial Gaussians" in line]
    for stage in ("", "val/"):
        assert logged[f"diff3r/{stage}psnr_target_after"] > logged[f"diff3r/{stage}psnr_target_before"]
    scores = json.loads((tmp_path / "diff3r_scores.json").read_text())
    assert scores["head_from_checkpoint"] and scores["fallbacks"] == 0
    for entry in scores["scenes"]:
        assert entry["after"]["psnr"] > entry["before"]["psnr"] and entry["renderer_agreement_psnr"] > 60
    plain = stub_host.make_wrapper_class(namespace.LightningModule, encoder)()
    plain.load_state_dict(torch.load(tmp_path / "plugin.ckpt", weights_only=False)["state_dict"], strict=True)
