"""Terms added to a host's training loss."""

from types import SimpleNamespace

import pytest
import torch

from diff3r_plugin.plugin.head_training.training_loss import with_loss, with_unrefined_loss
from diff3r_plugin.plugin.host.call import NO_CALL
from diff3r_plugin.plugin.refining.step import RefinedCall, Step


def test_the_unrefined_scenes_of_several_calls_count_as_their_mean():
    adapter = SimpleNamespace(
        render_targets=lambda wrapper, output, batch, call: output, target_images=lambda batch: batch
    )
    calls = [RefinedCall(SimpleNamespace(before=torch.full((1,), x), call=NO_CALL), torch.zeros(1)) for x in (1.0, 3.0)]
    found = with_unrefined_loss(torch.tensor(0.5), 2.0, adapter, None, Step("train", None, calls))
    assert found.item() == pytest.approx(0.5 + 2.0 * (1.0 + 9.0) / 2)


def test_a_skipped_step_and_one_without_gradients_stay_as_they_are():
    assert with_loss(None, lambda loss: loss + 1) is None
    with torch.no_grad():
        assert with_loss(torch.tensor(1.0), lambda loss: loss + 1).item() == 1.0
    assert with_loss({"loss": torch.tensor(1.0), "other": 2}, lambda loss: loss + 1) == {"loss": 2.0, "other": 2}
