"""Adapter for C3G."""

from __future__ import annotations

from typing import Any

from torch import nn

from diff3r_adapters.noposplat import NoPoSplat
from diff3r_adapters.pixelsplat_family import DECODER, PixelSplatFamily
from diff3r_plugin import Views
from diff3r_plugin.plugin import NO_CALL, Call, Expectation, HostAdapter, hookimpl

ENCODER = "src/model/encoder/encoder_vggt.py"
FINEST = 0.3  # at which its decoder's filter ends


class C3G(NoPoSplat):
    """github.com/cvlab-kaist/C3G: some thousand Gaussians on no grid, from learned tokens; NoPoSplat's family.

    In the first camera's frame, and its encoder does not see the poses: with no pixels of their own, Gaussians cannot
    tell them either, so ``diff3r.context_poses=batch`` is the choice at test. Its decoder begins with a wide low-pass
    filter, which it narrows while it trains. Features that it renders beside the colors are carried along.
    """

    name = "c3g"
    repository = "https://github.com/cvlab-kaist/C3G"
    verified_commits = ("3924276",)
    tap = None
    fingerprints = (*NoPoSplat.fingerprints, ENCODER, "src/model/encoder/common/gmae.py")
    expectations = (
        *(e for e in PixelSplatFamily.expectations if e.symbol != "Gaussians"),  # here with features
        Expectation(ENCODER, "EncoderVGGT.forward", ("context", "global_step"), "refining its output", ("Gaussians",)),
        Expectation(
            "src/model/types.py",
            "Gaussians",
            ("means", "covariances", "harmonics", "opacities", "feature"),
            "the scene",
        ),
        Expectation(DECODER, "DecoderSplattingCUDACfg", ("low_pass_filter", "decrease_lpf_step"), "its dilation"),
    )

    def alignment(self, encoder: nn.Module) -> None:
        return None

    def context_views(self, wrapper: Any, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        views = super().context_views(wrapper, context, output, call)
        return views.replace(dilation=_low_pass(wrapper.decoder, wrapper.global_step if call.stage == "train" else 0))


def _low_pass(decoder: Any, step: int) -> float:
    """The filter of this step's rendering: in training the decoder narrows it first, every so many steps."""
    width, every = decoder.low_pass_filter, decoder.cfg.decrease_lpf_step
    narrows = width > FINEST and step > 0 and every > 0 and step % every == 0
    return max(FINEST, width / 3) if narrows else width


@hookimpl
def diff3r_adapters() -> list[type[HostAdapter]]:
    """The adapter of this module."""
    return [C3G]
