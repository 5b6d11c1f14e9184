"""The output folder of a small test of a host, made with the layer itself."""

from dataclasses import asdict

import pytest
import torch

from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
from diff3r_plugin.evaluation import SavedScene, score
from diff3r_plugin.io import write_image
from diff3r_plugin.plugin.settings.settings import PluginSettings
from diff3r_plugin.render import render
from diff3r_plugin.strict_json import write_json

SIZE = 24
CONFIG = TTOConfig(inner_steps=2)


def saved_scene(name: str, seed: int) -> SavedScene:
    """A scene whose colors and places are off, seen by two context views and two target views from elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    count, uniform = 2 * SIZE * SIZE // 4, lambda *shape: torch.rand(*shape, generator=generator)
    means = torch.cat([uniform(1, count, 2) - 0.5, 1.5 + uniform(1, count, 1)], -1)
    truth = Gaussians(
        means,
        (0.001 * torch.eye(3)).expand(1, count, 3, 3).clone(),
        0.3 + 0.6 * uniform(1, count),
        torch.cat([2 * uniform(1, count, 3, 1) - 1, 0.2 * uniform(1, count, 3, 3)], -1),
    )
    matrix = torch.tensor([[30.0, 0, SIZE / 2], [0, 30.0, SIZE / 2 - 1], [0, 0, 1]]).expand(1, 2, 3, 3)

    def views(*places: float) -> Views:
        poses = torch.eye(4).repeat(1, len(places), 1, 1)
        poses[0, :, 0, 3] = torch.tensor(places)
        cameras = Views(poses, matrix, image_size=(SIZE, SIZE))
        return cameras.replace(images=render(truth, cameras).clamp(0, 1))

    prediction = Gaussians(
        truth.means + 0.02 * (uniform(1, count, 3) - 0.5), truth.covariances, truth.opacities, 0.7 * truth.harmonics
    )
    weights = {group: torch.full((1, count, 1), 0.01) for group in CONFIG.groups}
    weights["means"] = 0.001 + 0.1 * uniform(1, count, 1)
    return SavedScene(name, prediction, views(0.1, -0.1), views(0.05, -0.05), weights)


def write_run(folder, names=("room_a", "room_b"), pictures=True, scenes=True):
    """What a test with ``diff3r.save_pictures`` and ``diff3r.save_scenes`` leaves; returns the refined scenes."""
    entries, refined = [], {}
    for seed, name in enumerate(names):
        scene, place = saved_scene(name, seed), folder / "diff3r" / name
        after, info = TTOLayer(CONFIG)(scene.gaussians, scene.context, dict(scene.weights))
        refined[name] = after
        before_scores, after_scores = (score(scene, state) for state in (scene.gaussians, after))
        entries.append(
            {
                "scene": name,
                "before": before_scores,
                "after": after_scores,
                "seconds": 0.25,
                "outcome": str(info.outcomes[0]),
                "energy": info.energy[:, 0].tolist(),
                "stationarity": float(info.stationarity[0]),
                "accepted_steps": int(info.accepted_steps[0]),
                "renderer_agreement_psnr": 90.0,
            }
        )
        if scenes:
            scene.save(place / "scene.pt")
        if pictures:
            for number, image in enumerate(scene.context.images[0]):
                write_image(place / f"context_{number}.png", image)
            states = {"truth": scene.target.images, "before": None, "after": None}
            cameras = scene.target.replace(images=None)
            states["before"], states["after"] = (render(s, cameras) for s in (scene.gaussians, after))
            for side, images in states.items():
                for view, image in enumerate(images[0]):
                    write_image(place / f"target_{view}_{side}.png", image)
                    write_image(place / f"target_{view}_error_{side}.png", torch.zeros(3, 2, 2))
    header = {"adapter": "stub", "version": "1.2", "head": "learned", "head_from_checkpoint": True}
    settings = asdict(PluginSettings(tto=CONFIG, log_every=7))
    write_json(folder / "diff3r_scores.json", {**header, "settings": settings, "fallbacks": 0, "scenes": entries})
    return refined


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Two scenes with images and scenes."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return folder
