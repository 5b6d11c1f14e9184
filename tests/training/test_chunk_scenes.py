"""Views from RealEstate10K chunks."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from diff3r_plugin.data.re10k_format import camera_rows, encode_jpeg, scene_record, write_chunk
from diff3r_plugin.training import Batch, ChunkScenes


@pytest.fixture
def split(tmp_path):
    """Two chunks of two scenes; each frame is of one gray, its number, and its camera stands there."""
    index = {}
    for chunk in range(2):
        scenes = []
        for number, frames in enumerate((20, 12)):
            poses = np.eye(4)[None].repeat(frames, 0)
            poses[:, 0, 3] = np.arange(frames)
            images = [encode_jpeg(np.full((12, 24, 3), 10 * frame, np.uint8)) for frame in range(frames)]
            scenes.append(scene_record(f"scene{chunk}{number}", "", camera_rows((0.5, 1.0, 0.5, 0.5), poses), images))
        index |= write_chunk(tmp_path, chunk, scenes)
    (tmp_path / "index.json").write_text(json.dumps(index))
    return tmp_path


def frames_of(views):
    return views.world_to_camera[0, :, 0, 3].long().tolist()


def test_targets_lie_between_the_context_views_and_images_belong_to_their_cameras(split):
    scenes = ChunkScenes(split, (8, 8), context_views=3, target_views=4, gap=(6, 9))
    for scene in scenes:
        context, target = frames_of(scene.context), frames_of(scene.target)
        assert context == sorted(set(context)) and 6 <= context[-1] - context[0] <= 9
        assert all(context[0] < frame < context[-1] and frame not in context for frame in target)
        gray = (scene.context.given_images.mean((2, 3, 4)) * 25.5)[0]
        torch.testing.assert_close(gray, torch.tensor(context).float(), atol=0.2, rtol=0)


def test_images_are_covered_and_cropped_and_their_intrinsics_with_them(split):
    scene = next(iter(ChunkScenes(split, (6, 6), gap=(5, 5))))
    assert scene.context.given_images.shape == (1, 2, 3, 6, 6)
    # 12 x 24 becomes 6 x 12, of which three columns go on either side
    wanted = torch.tensor([[6.0, 0, 3], [0, 6, 3], [0, 0, 1]])
    torch.testing.assert_close(scene.context.intrinsics[0, 0], wanted)


def test_short_scenes_are_left_out(split):
    assert {scene.names[0][-1] for scene in ChunkScenes(split, (4, 4), gap=(12, 15))} == {"0"}


def test_epochs_differ_where_they_should_and_repeat_where_they_should(split):
    drawn = ChunkScenes(split, (4, 4), gap=(5, 9))
    first, second = ([(s.names, frames_of(s.target)) for s in drawn] for _ in range(2))
    assert first != second and len(first) == len(second) == 4
    again = ChunkScenes(split, (4, 4), gap=(5, 9))
    assert [(s.names, frames_of(s.target)) for s in again] == first
    fixed = ChunkScenes(split, (4, 4), gap=(5, 9), shuffle=False)
    assert len({str([(s.names, frames_of(s.target)) for s in fixed]) for _ in range(3)}) == 1


def test_workers_share_the_scenes_and_draw_anew_in_every_epoch(split):
    loader = DataLoader(ChunkScenes(split, (4, 4), gap=(5, 9)), batch_size=None, num_workers=2)
    epochs = [sorted((s.names[0], frames_of(s.target)) for s in loader) for _ in range(2)]
    for epoch in epochs:
        assert [name for name, _ in epoch] == ["scene00", "scene01", "scene10", "scene11"]
    assert epochs[0] != epochs[1]


def test_scenes_are_put_into_batches(split):
    both = next(iter(DataLoader(ChunkScenes(split, (4, 4), gap=(5, 9)), batch_size=2, collate_fn=Batch.of)))
    assert len(both) == 2 and both.context.given_images.shape == (2, 2, 3, 4, 4)
    assert both.to(torch.float64).target.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_views": 1}, "Two context views"),
        ({"gap": (9, 5)}, "not fall"),
        ({"gap": (2, 5), "context_views": 3}, "at least 3 frames"),
    ],
)
def test_numbers_that_make_no_sense_are_named(split, options, message):
    with pytest.raises(ValueError, match=message):
        ChunkScenes(split, (4, 4), **options)


def test_a_folder_without_an_index_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.json does not exist"):
        ChunkScenes(tmp_path, (4, 4))
