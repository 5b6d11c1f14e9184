"""Every adapter of this package keeps the contract, on outputs shaped like its host's."""

from dataclasses import dataclass

import host_stubs as stub
import torch

from diff3r_adapters.depthsplat import DepthSplat
from diff3r_adapters.mini_host import MiniHost
from diff3r_adapters.mvsplat import MVSplat
from diff3r_adapters.noposplat import NoPoSplat
from diff3r_adapters.pixelsplat import PixelSplat
from diff3r_adapters.transplat import TransPlat
from diff3r_adapters.zpressor import ZPressorDepthSplat, ZPressorMVSplat
from diff3r_plugin.plugin.host.contract import AdapterContract, Example


class TestMiniHost(AdapterContract):
    def example(self):
        return Example(MiniHost(), stub.wrapper(), stub.context(), stub.host_gaussians(coefficients=4), stub.B)


class TestMVSplat(AdapterContract):
    def example(self):
        return Example(MVSplat(), stub.wrapper(), stub.context(), stub.host_gaussians(), stub.B)


class TestTransPlat(AdapterContract):
    def example(self):
        return Example(TransPlat(), stub.wrapper(), stub.context(), stub.host_gaussians(), stub.B)


class TestPixelSplatWithThreeSamples(AdapterContract):
    def example(self):
        return Example(PixelSplat(), stub.wrapper(3), stub.context(), stub.host_gaussians(per_pixel=3), stub.B)


class TestZPressorWithOneCenterOfTwoViews(AdapterContract):
    def example(self):
        return Example(ZPressorMVSplat(), stub.wrapper(), stub.context(), stub.host_gaussians(views=1), stub.B)


class TestZPressorDepthSplatWithIntermediateDepths(AdapterContract):
    def example(self):
        scene = stub.host_gaussians(2 * stub.B, coefficients=9, views=1)
        noted = WithNotes(**vars(scene), extra_info={"center_views": torch.zeros(stub.B, 1, dtype=torch.long)})
        output = {"gaussians": noted, "depths": torch.rand(2 * stub.B, 1, 6, 8)}
        return Example(ZPressorDepthSplat(), stub.wrapper(), stub.context(), output, stub.B)


@dataclass
class WithNotes(stub.HostGaussians):
    extra_info: dict | None = None


class TestNoPoSplat(AdapterContract):
    def example(self):
        wrapper = stub.wrapper(make_scale_invariant=True)
        return Example(NoPoSplat(), wrapper, stub.context(image_range=(-1.0, 1.0)), stub.host_gaussians(), stub.B)


class TestDepthSplatDict(AdapterContract):
    def example(self):
        output = {"gaussians": stub.host_gaussians(coefficients=9), "depths": torch.rand(stub.B, stub.V, 6, 8)}
        return Example(DepthSplat(), stub.wrapper(), stub.context(), output, stub.B)


class TestDepthSplatBare(AdapterContract):
    def example(self):
        return Example(DepthSplat(), stub.wrapper(), stub.context(), stub.host_gaussians(coefficients=9), stub.B)


class TestDepthSplatWithIntermediateDepths(AdapterContract):
    def example(self):
        output = {"gaussians": stub.host_gaussians(2 * stub.B, coefficients=9), "depths": torch.rand(4, 2, 6, 8)}
        return Example(DepthSplat(), stub.wrapper(), stub.context(), output, stub.B)

    def test_only_the_final_depths_are_refined(self):
        example = self.example()
        gaussians = example.adapter.gaussians(example.output, stub.B)
        moved = gaussians.map(lambda t: t * 0.5)
        scene = example.adapter.with_gaussians(example.output, moved)["gaussians"]
        given = example.output["gaussians"]
        assert torch.equal(scene.means[: stub.B], given.means[: stub.B])
        assert torch.equal(scene.means[stub.B :], given.means[stub.B :] * 0.5)

    def test_depths_alone_are_not_refinable(self):
        assert not DepthSplat().refinable({"gaussians": None, "depths": torch.rand(1)})
