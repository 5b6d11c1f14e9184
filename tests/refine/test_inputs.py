"""Files that say something unusual, from their reading to what is written: a finished scene starts at what it shows."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from statistics import fmean

import numpy as np
import plyfile
import pytest
import refine_files
import torch
from PIL import Image

from diff3r_plugin import TTOConfig
from diff3r_plugin.io import FileError, FileWarning, read_npz, read_splats, write_ply
from diff3r_plugin.refine import RefineError, Refinement, RefineSettings, refine
from diff3r_plugin.refine.inputs import StoredImages, read_inputs
from diff3r_plugin.refine.inspection import inspect
from diff3r_plugin.render import render

pytestmark = pytest.mark.filterwarnings("ignore::diff3r_plugin.io.FileWarning")

FAR = torch.tensor([448_262.25, 5_411_933.5, 231.125], dtype=torch.float64)
SHOWN = 38.0
"""dB of a finished scene at least: images have eight bits."""


@pytest.fixture
def settings(tmp_path) -> RefineSettings:
    scene, cameras = refine_files.write_scene(tmp_path / "data", finished=True)
    return RefineSettings(scene, str(cameras), tmp_path / "out", hold_out="none", pictures=0)


def start(settings: RefineSettings) -> float:
    """PSNR of the scene as it is read."""
    inputs = read_inputs(settings)
    refinement = Refinement.of(settings, inputs.scene, StoredImages(inputs.context, inputs, settings))
    return fmean(score["psnr"] for score in refinement.score(inputs.scene))


def fits(settings: RefineSettings) -> bool:
    """Whether the scene is where the cameras look, and shows what they saw."""
    try:
        return start(settings) > SHOWN
    except RefineError:  # no camera has it in view
        return False


def told_of(settings: RefineSettings) -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        inspect(read_inputs(settings), settings, 2)
    return [str(each.message) for each in told if issubclass(each.category, FileWarning)]


def edited(settings: RefineSettings, change) -> None:
    """Change what the transforms.json says."""
    with open(settings.cameras, encoding="utf-8") as file:
        content = json.load(file)
    change(content)
    with open(settings.cameras, "w", encoding="utf-8") as file:
        json.dump(content, file)


def test_a_finished_scene_is_shown_as_it_is_and_nothing_is_told(settings):
    assert start(settings) > SHOWN and told_of(settings) == []


def move_far(settings: RefineSettings) -> None:
    """Surveyed coordinates, with doubles in the PLY."""
    write_ply(settings.scene, read_splats(settings.scene).gaussians, FAR.tolist())

    def move(content):
        for frame in content["frames"]:
            for axis in range(3):
                frame["transform_matrix"][axis][3] += float(FAR[axis])

    edited(settings, move)


def test_scenes_far_from_the_origin_lose_nothing_and_stay_there(settings):
    near = start(settings)
    move_far(settings)
    assert start(settings) == pytest.approx(near, abs=0.2)
    result = refine(replace(settings, tto=TTOConfig(inner_steps=1)))
    assert result.metrics["before"]["context"]["psnr"] == pytest.approx(near, abs=0.2)
    table = plyfile.PlyData.read(settings.out / "refined.ply")["vertex"].data
    assert table.dtype["x"] == np.float64
    expected = result.scene.means[0].double() + torch.tensor(read_inputs(settings).origin, dtype=torch.float64)
    for number, axis in enumerate("xyz"):
        assert np.allclose(table[axis], expected[:, number], rtol=0, atol=1e-6)
    assert torch.allclose(read_npz(settings.out / "refined.npz").means[0], expected, atol=1e-6)
    again = replace(settings, scene=settings.out / "refined.ply")
    assert start(again) == pytest.approx(result.metrics["after"]["context"]["psnr"], abs=0.2)


def test_points_far_from_the_origin_start_as_near_ones_do(tmp_path):
    starts = []
    for name, by in (("near", torch.zeros(3, dtype=torch.float64)), ("far", FAR)):
        folder = refine_files.write_colmap(tmp_path / name)
        lines = (folder / "sparse" / "points3D.txt").read_text().splitlines()
        rows = [line.split() for line in lines]
        for row in rows:
            row[1:4] = [repr(float(row[1 + axis]) + float(by[axis])) for axis in range(3)]
        (folder / "sparse" / "points3D.txt").write_text("\n".join(map(" ".join, rows)) + "\n")
        lines = (folder / "sparse" / "images.txt").read_text().splitlines()
        from diff3r_plugin.gaussians import rotation_matrices

        for number in range(0, len(lines), 2):
            row = lines[number].split()
            rotation = rotation_matrices(torch.tensor([[float(v) for v in row[1:5]]], dtype=torch.float64))[0]
            moved = torch.tensor([float(v) for v in row[5:8]], dtype=torch.float64) - rotation @ by
            row[5:8] = [repr(v) for v in moved.tolist()]
            lines[number] = " ".join(row)
        (folder / "sparse" / "images.txt").write_text("\n".join(lines) + "\n")
        starts.append(start(RefineSettings(None, str(folder), tmp_path / "out", hold_out="none")))
    assert starts[1] == pytest.approx(starts[0], abs=0.1)


def test_points_of_a_file_are_those_of_the_model_in_it(tmp_path):
    """A PLY with the model's points starts as the model does, beside cameras of any kind."""
    folder = refine_files.write_colmap(tmp_path / "data")
    rows = [line.split() for line in (folder / "sparse" / "points3D.txt").read_text().splitlines()]
    header = ["ply", "format ascii 1.0", f"element vertex {len(rows)}"]
    header += [f"property double {axis}" for axis in "xyz"]
    header += [f"property uchar {color}" for color in ("red", "green", "blue")]
    file = tmp_path / "points.ply"
    file.write_text("\n".join([*header, "end_header", *(" ".join(row[1:7]) for row in rows)]) + "\n")
    own = RefineSettings(None, str(folder), tmp_path / "out", hold_out="none")
    expected = read_inputs(own).scene
    (tmp_path / "other").mkdir()
    _, cameras = refine_files.write_scene(tmp_path / "other")
    for points, there in ((str(file), str(folder)), (str(file), str(cameras)), (str(folder), str(cameras))):
        found = read_inputs(replace(own, points=points, cameras=there)).scene
        assert all(torch.allclose(a, b) for a, b in zip(found.tensors(), expected.tensors(), strict=True))
    with pytest.raises(ValueError, match="give one of them to start from"):
        replace(own, points=str(file), scene=file)


def test_the_world_before_scale_and_transform(settings):
    axes = torch.tensor([[0.0, 1, 0, 1], [0, 0, 1, 2], [1, 0, 0, 3], [0, 0, 0, 1]], dtype=torch.float64)

    def apply(content):
        content |= {"applied_transform": axes[:3].tolist(), "applied_scale": 3.0}
        for frame in content["frames"]:
            pose = axes @ torch.tensor(frame["transform_matrix"], dtype=torch.float64)
            pose[:3, 3] *= 3
            frame["transform_matrix"] = pose.tolist()

    edited(settings, apply)
    assert start(replace(settings, world="original")) > SHOWN
    assert not fits(settings), "or this tests nothing"


def test_splats_of_nerfstudio_beside_the_file_that_says_where_they_live(settings):
    turn = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)

    def move(content):
        """The cameras' file is in a world that nerfstudio turned and shrank for the splats."""
        for frame in content["frames"]:
            pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
            pose[:3, 3] *= 4
            frame["transform_matrix"] = (torch.linalg.inv(turn) @ pose).tolist()

    edited(settings, move)
    saying = {"transform": turn[:3].tolist(), "scale": 0.25}
    file = settings.scene.parent / "dataparser_transforms.json"
    assert not fits(settings)
    file.write_text(json.dumps(saying))
    assert start(settings) > SHOWN
    assert any("nerfstudio's world" in line for line in told_of(settings))
    file.rename(settings.scene.parent.parent / "moved.json")
    assert start(replace(settings, world=str(settings.scene.parent.parent / "moved.json"))) > SHOWN


def test_masked_pixels_count_neither_for_the_refinement_nor_for_its_scores(settings):
    folder = settings.scene.parent
    (folder / "masks").mkdir()
    for number in range(refine_files.VIEWS):
        file = folder / "images" / f"{number}.png"
        pixels = np.array(Image.open(file))
        pixels[:, :16] = 255 * (number % 2)  # someone walks through
        Image.fromarray(pixels).save(file)
        mask = np.full(pixels.shape[:2], 255, np.uint8)
        mask[:, :16] = 0
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    unmasked = refine(replace(settings, out=settings.out / "without"))

    def name(content):
        for frame in content["frames"]:
            frame["mask_path"] = frame["file_path"].replace("images", "masks")

    edited(settings, name)
    masked = refine(settings)
    assert unmasked.metrics["before"]["context"]["psnr"] < 15
    assert masked.metrics["before"]["context"]["psnr"] > SHOWN
    assert masked.metrics["after"]["context"]["psnr"] > SHOWN
    given = read_splats(settings.scene).gaussians
    assert (masked.scene.means - given.means).norm() < 0.2 * (unmasked.scene.means - given.means).norm()


def test_images_that_are_not_used_need_not_be_there(settings):
    folder = settings.scene.parent / "images"
    (folder / "4.png").unlink()
    (folder / "5.png").write_bytes(b"broken")
    with pytest.raises(FileError, match=r"1 of its 6 images are missing, the first is 'images/4.png'.*--frames"):
        read_inputs(settings)
    for frames in ("0:4", "images/0.png,images/1.png", "0,1,2,3"):
        assert start(replace(settings, frames=frames)) > SHOWN


def test_the_files_own_test_images_are_held_out(settings):
    def name(content):
        content |= {"train_filenames": [f"images/{i}.png" for i in (0, 1, 2, 3)]}
        content |= {"test_filenames": ["images/4.png", "./images/5.png"]}

    edited(settings, name)
    for hold_out in ("auto", "file"):
        assert read_inputs(replace(settings, hold_out=hold_out)).held_out.names == ("images/4.png", "images/5.png")
    assert read_inputs(replace(settings, hold_out="every:3")).held_out.names == ("images/0.png", "images/3.png")
    edited(settings, lambda content: [content.pop(f"{split}_filenames") for split in ("train", "test")])
    assert read_inputs(replace(settings, hold_out="auto")).held_out.names == ("images/0.png",)
    with pytest.raises(RefineError, match="--hold-out file"):
        read_inputs(replace(settings, hold_out="file"))


def double_focal(content):
    content |= {key: 2 * content[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    content |= {key: content[key] / 2 for key in ("cx", "cy", "w", "h")}


def another_frame(content):
    """Most of the scene is out of view."""
    for frame in content["frames"]:
        frame["transform_matrix"][0][3] += 1.5


@pytest.mark.parametrize(
    ("change", "cause"), [(double_focal, "a focal length in pixels"), (another_frame, "cameras of another frame")]
)
def test_an_implausible_start_is_told_of_once_with_likely_causes(settings, change, cause):
    edited(settings, change)
    (doubt,) = [line for line in told_of(settings) if "does not look like the images" in line]
    assert cause in doubt and "'diff3r inspect'" in doubt
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        refine(replace(settings, tto=TTOConfig(inner_steps=0)))
    assert sum("does not look like" in str(each.message) for each in told) == 1


def test_opacities_that_were_made_logits_twice_are_a_likely_cause(settings):
    table = plyfile.PlyData.read(settings.scene, mmap=False)["vertex"].data
    table["opacity"] = 1 / (1 + np.exp(-table["opacity"].astype(np.float64)))
    comment = ["Generated by diff3r-plugin"]  # by which they are taken for logits
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")], comments=comment).write(str(settings.scene))
    told = [line for line in told_of(settings) if "does not look like" in line]
    assert not told or "opacities that are no logits" in told[0]
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")]).write(str(settings.scene))
    assert start(settings) > SHOWN


@pytest.mark.parametrize(
    ("comment", "dilation"), [("SplatRenderMode: mip", 0.1), ("antialiased 1", 0.3), ("antialiased 0", None)]
)
def test_splats_are_rendered_as_their_header_says(settings, comment, dilation):
    scene, views = refine_files.made()
    views = views.replace(background=torch.zeros(3), antialiased=dilation is not None, dilation=dilation or 0.3)
    refine_files.write_images(settings.scene.parent, views.replace(images=render(scene, views)))
    table = plyfile.PlyData.read(settings.scene, mmap=False)["vertex"].data
    element = plyfile.PlyElement.describe(table, "vertex")
    plyfile.PlyData([element], comments=[comment]).write(str(settings.scene))
    assert start(settings) > SHOWN
    refine(replace(settings, tto=TTOConfig(inner_steps=0)))
    assert read_splats(settings.out / "refined.ply").rendering.antialiased == (dilation is not None)


def test_what_the_inria_code_trained_with_is_told_of(settings):
    folder = settings.scene.parent / "point_cloud" / "iteration_7000"
    folder.mkdir(parents=True)
    settings.scene.rename(folder / "point_cloud.ply")
    said = "Namespace(eval=True, images='images', sh_degree=3, train_test_exp=True, white_background=True)"
    (settings.scene.parent / "cfg_args").write_text(said)
    there = replace(settings, scene=folder / "point_cloud.ply")
    told = told_of(there)
    assert any("--background 1,1,1" in line for line in told) and any("exposure.json" in line for line in told)
    assert not any(
        "--background 1,1,1" in line
        for line in told_of(replace(there, background=(1.0, 1.0, 1.0)))
        if "cfg_args" in line
    )
