"""The checks that every adapter must pass; subclass `AdapterContract` in a test module of your own.

Example:
    class TestMyHost(AdapterContract):
        def example(self):
            return Example(MyHost(), wrapper, context, encoder_output, scenes=2)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.plugin.host.adapter import HostAdapter
from diff3r_plugin.plugin.host.call import Call
from diff3r_plugin.views import Views


@dataclass
class Example:
    """One encoder call of a host.

    Args:
        adapter: The adapter under test.
        wrapper: The host's LightningModule, or something with the attributes the adapter reads.
        context: What the encoder was given.
        output: What it returned.
        scenes: How many scenes the context holds.
        call: How the host called its encoder (or the method that is refined); None: ``encoder(context, 0)`` in a test
            whose batch is ``{"context": context}``.
    """

    adapter: HostAdapter
    wrapper: Any
    context: Any
    output: Any
    scenes: int
    call: Call | None = None

    @property
    def made(self) -> Call:
        """The call, a synthetic one where none was given."""
        if self.call is not None:
            return self.call
        return Call(self.wrapper, (self.context, 0), {}, {"context": self.context}, "test", ("context", "global_step"))

    def gaussians(self, output: Any = None) -> Gaussians:
        """The scenes in an output of the call, by default in the example's."""
        return self.adapter.gaussians(self.output if output is None else output, self.scenes, self.made)

    def views(self) -> Views:
        """The context views of the call."""
        context = self.adapter.context_of(self.made)
        return self.adapter.context_views(self.wrapper, context, self.output, self.made)

    def written(self, refined: Gaussians) -> Any:
        """The example's output with another scene."""
        return self.adapter.with_gaussians(self.output, refined, None, self.made.with_copies(self.adapter.mutable))


class AdapterContract:
    """What the plugin relies on in an adapter."""

    def example(self) -> Example:
        """The encoder call to check with."""
        raise NotImplementedError

    def test_it_has_a_name_and_recognizes_something(self) -> None:
        adapter = self.example().adapter
        assert adapter.name.isidentifier(), f"name {adapter.name!r} must be a Python identifier"
        assert adapter.fingerprints, "without fingerprints the host is never recognized"

    def test_gaussians_are_activated_and_as_many_as_the_pixels(self) -> None:
        example = self.example()
        gaussians, views = example.gaussians(), example.views()
        assert gaussians.batch_size == example.scenes == views.batch_size
        grids = example.adapter.alignment(example.adapter.encoder(example.wrapper))
        if grids is not None and example.adapter.chosen_views is None:
            expected = sum(grid.count(views.num_views, *views.image_size) for grid in grids)
            assert gaussians.num_gaussians == expected, "alignment() must count the Gaussians that there are"
        assert ((gaussians.opacities >= 0) & (gaussians.opacities <= 1)).all(), "opacities must be activated"

    def test_views_are_what_the_layer_expects(self) -> None:
        example = self.example()
        views = example.views()
        assert views.images is not None
        assert views.images.min() >= 0 and views.images.max() <= 1, "images must lie in [0, 1]"
        height, width = views.image_size
        assert (views.intrinsics[..., 0, 0] > 2).all(), "intrinsics must be in pixels, not normalized"
        assert ((views.intrinsics[..., 0, 2] > 0) & (views.intrinsics[..., 0, 2] < width)).all()
        assert ((views.intrinsics[..., 1, 2] > 0) & (views.intrinsics[..., 1, 2] < height)).all()
        rotation = views.world_to_camera[..., :3, :3].double()
        assert torch.allclose(torch.linalg.det(rotation), torch.ones(()).double(), atol=1e-4), (
            "a rotation, not a mirror"
        )
        near, far = torch.as_tensor(views.near), torch.as_tensor(views.far)
        assert bool((near > 0).all() and (far > near).all())

    def test_there_and_back_changes_nothing(self) -> None:
        example = self.example()
        given = copy.deepcopy(example.output)
        back = example.written(example.gaussians())
        assert type(back) is type(example.output), "callers distinguish the kinds of output"
        for before, after in zip(_tensors(given), _tensors(back), strict=True):
            assert before.shape == after.shape and before.dtype == after.dtype
            assert torch.allclose(before, after, rtol=1e-5, atol=1e-5)
        for before, now in zip(_tensors(given), _tensors(example.output), strict=True):
            assert torch.equal(before, now), "the encoder's own output must not be changed in place"

    def test_what_is_written_is_read_again(self) -> None:
        example = self.example()
        gaussians = example.gaussians()
        there = (gaussians.opacities > 0).to(gaussians.means)[..., None]  # the others are padding, which stays
        moved = Gaussians(
            gaussians.means + 0.5 * there,
            None if gaussians.covariances is None else gaussians.covariances * (1 + there[..., None]),
            gaussians.opacities * 0.5,
            gaussians.harmonics + 0.25 * there[..., None],
            None if gaussians.scales is None else gaussians.scales * (1 + there),
            gaussians.quats,
        )
        read = example.gaussians(example.written(moved))
        for name in ("means", "covariances", "opacities", "harmonics", "scales", "quats"):
            wanted, found = getattr(moved, name), getattr(read, name)
            assert (wanted is None) == (found is None)
            assert wanted is None or torch.allclose(wanted, found, rtol=1e-4, atol=1e-5), name

    def test_gradients_pass_both_ways(self) -> None:
        example = self.example()
        gaussians = example.gaussians()
        leaves = gaussians.map(lambda t: t.detach().clone().requires_grad_())
        read = example.gaussians(example.written(leaves))
        torch.stack([t.sum() for t in read.tensors()]).sum().backward()
        for leaf in leaves.tensors():
            assert leaf.grad is not None and leaf.grad.abs().sum() > 0

    def test_what_the_decoder_keeps_is_told_for_every_gaussian(self) -> None:
        example = self.example()
        gaussians = example.gaussians()
        kept = example.adapter.visible(example.made, gaussians)
        if kept is not None:
            assert kept.dtype == torch.bool and kept.shape == gaussians.opacities.shape
            assert kept.any(), "a decoder that keeps nothing renders nothing"

    def test_the_source_of_its_poses_is_one_it_has(self) -> None:
        example = self.example()
        source = example.adapter.poses_source(example.made)
        assert source in (None, "batch", "predicted")
        assert source != "predicted" or example.adapter.predicts_poses

    def test_it_works_on_inference_tensors(self) -> None:
        with torch.inference_mode():
            example = self.example()
            example.context = copy.deepcopy(example.context)
        with torch.inference_mode(False), torch.no_grad():
            views = example.views()
            gaussians = example.gaussians().map(torch.clone)
            read = example.gaussians(example.written(gaussians))
        assert views.batch_size == example.scenes
        torch.testing.assert_close(read.means, gaussians.means)


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in an encoder's output, in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for key in value for t in _tensors(value[key])]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in _tensors(item)]
    return (
        [t for name in sorted(vars(value)) for t in _tensors(vars(value)[name])] if hasattr(value, "__dict__") else []
    )
