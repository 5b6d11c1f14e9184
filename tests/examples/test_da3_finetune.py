"""The example for Depth Anything 3 runs to its end on a stand-in that answers in the form of its network."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from diff3r_plugin import Views

EXAMPLE = Path(__file__).parents[2] / "examples" / "da3_finetune.py"


@pytest.fixture
def example(monkeypatch):
    """Its names; whatever is installed here, it finds no Depth Anything 3."""
    monkeypatch.setitem(sys.modules, "depth_anything_3", None)
    return runpy.run_path(str(EXAMPLE))


def test_the_smoke_run_ends_with_scores_and_a_checkpoint_of_network_and_head(example, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["da3_finetune.py", "--smoke", "--out", str(tmp_path)])
    example["main"]()
    out = capsys.readouterr().out
    assert "a stand-in, since depth_anything_3 cannot be imported" in out
    assert out.index("before: [{'val/psnr_context_before'") < out.index("after: [{'val/psnr_context_before'")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"network", "head"} and saved["global_step"] == 4


def test_only_the_gaussian_head_is_trained(example):
    class Net(example["StandIn"]):
        def __init__(self):
            super().__init__()
            self.backbone = torch.nn.Linear(2, 2)

    net = Net()
    example["train_the_gaussian_head"](net)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == {
        n for n, _ in net.named_parameters() if n.startswith("gs_head")
    }


def test_images_are_normalized_and_answers_become_predictions(example):
    seen = {}

    class Net(example["StandIn"]):
        def forward(self, images, infer_gs):
            seen["images"] = images
            return super().forward(images, infer_gs)

    cameras, K = torch.eye(4).expand(2, 3, 4, 4), torch.eye(3).expand(2, 3, 3, 3)
    context = Views(cameras, K, torch.full((2, 3, 3, 14, 28), 0.5))
    prediction = example["DepthAnything3Gaussians"](Net())(context)
    assert seen["images"][0, 0, :, 0, 0].tolist() == pytest.approx([0.0655, 0.1964, 0.4178], abs=1e-4)
    assert prediction.gaussians.num_gaussians == 3 * 14 * 28 and prediction.gaussians.scales is not None
    assert prediction.world_to_camera.shape == (2, 3, 4, 4)
    assert (prediction.world_to_camera[..., 3, :] == torch.tensor([0.0, 0, 0, 1])).all()


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "give DATA, or --smoke"), (["--smoke", "--size", "50"], "a multiple of 14, got 50")]
)
def test_arguments_that_make_no_sense_are_named(example, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["da3_finetune.py", *arguments])
    with pytest.raises(SystemExit):
        example["main"]()
    assert message in capsys.readouterr().err
