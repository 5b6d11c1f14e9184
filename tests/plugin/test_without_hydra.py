"""A host in Splatt3R's shape, without Hydra: the session begins when its LightningModule is defined."""

import json
import sys

import pytest
from plugin.own_process import run

import diff3r_plugin
from diff3r_startup import activation

MAIN = """
import sys
import lightning as L
import omegaconf
import torch
from src.pixelsplat_src.decoder_splatting_cuda import DecoderSplattingCUDA


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gaussian_dpt = torch.nn.Module()
        self.gaussian_dpt.dpt = torch.nn.Module()
        self.gaussian_dpt.dpt.head = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 8, 1))

    def forward(self, image):
        b, _, h, w = image.shape
        raw = self.gaussian_dpt.dpt.head(image).permute(0, 2, 3, 1)
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        plane = torch.stack([x / w - 0.5, y / h - 0.5, torch.ones(h, w)], -1) * 2
        return {
            "means": plane + 0.1 * raw[..., :3],
            "covariances": (0.15 * torch.eye(3)).expand(b, h, w, 3, 3) ** 2,
            "sh": raw[..., 3:6, None],
            "opacities": raw[..., 6:7].sigmoid(),
        }


class MAST3RGaussians(L.LightningModule):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.encoder = torch.nn.Module()
        self.encoder.downstream_head1, self.encoder.downstream_head2 = Head(), Head()
        self.decoder = DecoderSplattingCUDA()
        self.save_hyperparameters()

    def forward(self, view1, view2):
        pred1 = self.encoder.downstream_head1(view1["original_img"])
        pred2 = self.encoder.downstream_head2(view2["original_img"])
        pred2["means_in_other_view"] = pred2.pop("means")
        return pred1, pred2

    def step(self, batch):
        pred1, pred2 = self.forward(*batch["context"])
        color, _ = self.decoder(batch, pred1, pred2, batch["context"][0]["original_img"].shape[-2:])
        return (color - torch.stack([view["original_img"] for view in batch["target"]], 1)).square().mean()

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.step(batch)

    def test_step(self, batch, batch_idx):
        self.step(batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.encoder.parameters(), lr=1e-3)


def view(shift):
    pose, K = torch.eye(4), torch.tensor([[12.0, 0, 6], [0, 12, 6], [0, 0, 1]])
    pose[0, 3] = shift
    image = torch.full((3, 12, 12), 0.6) + torch.linspace(-0.1, 0.1, 12)
    return {"original_img": image, "camera_pose": pose, "camera_intrinsics": K}


def main():
    line = omegaconf.OmegaConf.from_dotlist(sys.argv[2:])
    config = omegaconf.OmegaConf.merge(omegaconf.OmegaConf.load(sys.argv[1]), line)
    print("left on the command line:", sys.argv[1:])
    L.seed_everything(0)
    model = MAST3RGaussians(config)
    scene = {"context": [view(0.0), view(0.1)], "target": [view(0.05)], "scene": "wall"}
    loader = torch.utils.data.DataLoader([scene] * 3, batch_size=1)
    options = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer = L.Trainer(max_steps=2, num_sanity_val_steps=0, **options)
    trainer.fit(model, loader)
    trainer.test(model, torch.utils.data.DataLoader([scene], batch_size=1), verbose=False)


if __name__ == "__main__":
    main()
"""
DECODER = """
import torch
from diff3r_plugin import Gaussians, Views
from diff3r_plugin.render import render


class DecoderSplattingCUDA(torch.nn.Module):
    background_color = torch.zeros(3)

    def forward(self, batch, pred1, pred2, image_shape):
        def both(first, second):
            return torch.cat([pred1[first].flatten(1, 2), pred2[second].flatten(1, 2)], 1)

        first = torch.linalg.inv(batch["context"][0]["camera_pose"])[:, None]
        poses = first @ torch.stack([view["camera_pose"] for view in batch["target"]], 1)
        K = torch.stack([view["camera_intrinsics"] for view in batch["target"]], 1)
        scene = Gaussians(
            both("means", "means_in_other_view"), both("covariances", "covariances"),
            both("opacities", "opacities")[..., 0], both("sh", "sh"),
        )
        return render(scene, Views(torch.linalg.inv(poses), K, near=0.02, image_size=tuple(image_shape))), None
"""


@pytest.fixture
def checkout(tmp_path):
    decoder = tmp_path / "src" / "pixelsplat_src" / "decoder_splatting_cuda.py"
    decoder.parent.mkdir(parents=True)
    decoder.write_text(DECODER)
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "workspace.py").touch()
    (tmp_path / "main.yaml").write_text("save_dir: results\n")
    return tmp_path


def test_it_trains_and_tests_refined_with_settings_of_both_kinds(checkout):
    """Some seconds: a process of its own, which imports Lightning."""
    settings = ("--set", "context_poses=batch", "--set", "inner_steps=9")
    command = (sys.executable, "main.py", "main.yaml", "save_dir=here", "diff3r.inner_steps=3")
    status, out = run(checkout, *settings, "--", *command)
    assert status == 0, out
    assert (
        f"[diff3r] {diff3r_plugin.__version__}: adapter splatt3r, refining in train/val/test, 3 gauss_newton steps"
        in out
    )
    assert "left on the command line: ['main.yaml', 'save_dir=here']" in out
    scores = json.loads((checkout / "here" / "diff3r_scores.json").read_text())
    (scene,) = scores["scenes"]
    assert scene["scene"] == "wall" and scene["after"]["psnr"] > scene["before"]["psnr"] + 1
    assert scene["renderer_agreement_psnr"] > 60 and scores["context_poses"] == "batch"


def test_what_is_wrong_ends_the_run_with_one_message(checkout):
    status, out = run(checkout, "--", sys.executable, "main.py", "main.yaml", "diff3r.iner_steps=3")
    assert status == 1 and "Did you mean 'diff3r.inner_steps'" in out and "Traceback" not in out


def test_modules_of_other_names_begin_nothing(monkeypatch):
    class Module:
        pass

    activation._watch_definitions(Module)
    activation._watch_definitions(Module)
    monkeypatch.setenv("DIFF3R_PLUGIN", "diff3r")

    class Other(Module):
        pass

    from diff3r_plugin.plugin import session

    assert session.current() is None


def test_a_module_with_a_hook_of_its_own_keeps_it(monkeypatch):
    seen = []

    class Module:
        def __init_subclass__(cls, word="", **rest):
            seen.append(word)

    monkeypatch.delenv("DIFF3R_PLUGIN", raising=False)
    activation._watch_definitions(Module)

    class Derived(Module, word="mine"):
        pass

    assert seen == ["mine"] and issubclass(Derived, Module)
