"""Images of validation scenes reach the host's logger, whatever its kind, and never end the host's run."""

import host_stubs
import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning
import torch
from plugin import stub_host

from diff3r_plugin.plugin.scoring.image_logging import GAP, MAPS, RENDERINGS

NAMESPACES = pytest.mark.parametrize("namespace", [lightning.pytorch, pytorch_lightning], ids=lambda n: n.__name__)


def validate(namespace, folder, logger, batches=3, epochs=1, **settings):
    """Validate a stub host with a logger; returns what the plugin said."""
    wrapper_class = stub_host.make_wrapper_class(namespace.LightningModule)
    with stub_host.plugged_in(wrapper_class, folder, inner_steps=1, **settings) as said:
        trainer = stub_host.make_trainer(namespace, folder, logger=logger)
        trainer.validate(wrapper_class(), stub_host.loader(batches), verbose=False)
    return [line for line in said if "images of validation" in line]


def logger_class(namespace):
    """A logger as the hosts bring along: ``log_image`` of 8-bit rows, columns, channels."""

    class LocalLogger(namespace.loggers.Logger):
        name, version = "local", 0

        def __init__(self):
            super().__init__()
            self.logged: list[tuple[str, np.ndarray, int, str]] = []

        def log_metrics(self, metrics, step=None):
            pass

        def log_hyperparams(self, params, *args, **kwargs):
            pass

        def log_image(self, key, images, step=None, **kwargs):
            if not isinstance(images, list):  # as wandb's
                raise TypeError(f"Expected a list as images, found {type(images)}")
            assert all(len(values) == len(images) for values in kwargs.values())
            assert step is not None
            self.logged += [(key, image, step, kwargs["caption"][n]) for n, image in enumerate(images)]

    return LocalLogger


@NAMESPACES
def test_scenes_come_with_renderings_errors_and_weights(namespace, tmp_path):
    logger = logger_class(namespace)()
    assert validate(namespace, tmp_path, logger, log_images=3) == []
    renderings = [entry for entry in logger.logged if entry[0].startswith(RENDERINGS)]
    maps = [entry for entry in logger.logged if entry[0].startswith(MAPS)]
    assert len(renderings) == len(maps) == 3  # two scenes of the first batch, one of the second
    assert len({key for key, *_ in renderings}) == 2  # the second call of a step replaces nothing
    for _, image, step, caption in renderings:
        assert image.dtype == np.uint8 and step == 0
        assert image.shape == (host_stubs.H, 5 * host_stubs.W + 4 * GAP, 3)
        assert "truth, before (" in caption and "dB), after (" in caption
    assert [caption.split(":")[0] for *_, caption in renderings] == ["scene0_0", "scene0_1", "scene1_0"]
    groups = ("means", "covariance", "opacity", "sh_dc", "sh_rest")
    for _, image, _, caption in maps:
        height = host_stubs.V * host_stubs.H + (host_stubs.V - 1) * GAP
        assert image.shape == (height, 6 * host_stubs.W + 5 * GAP, 3)  # the context image, and five groups
        assert all(group in caption for group in groups)


def test_what_is_shown_is_what_was_measured(tmp_path):
    logger = logger_class(lightning.pytorch)()
    validate(lightning.pytorch, tmp_path, logger, log_images=1)
    (image,) = [image for key, image, *_ in logger.logged if key == RENDERINGS]
    W = host_stubs.W
    truth, before, after, error_before, error_after = (image[:, n * (W + GAP) :][:, :W].astype(int) for n in range(5))
    batch = stub_host.batch(0)["target"]["image"]
    expected = (batch[0, batch.shape[1] // 2].permute(1, 2, 0) * 255).round().int().numpy()
    assert (truth == expected).all() and (before != after).any()
    for rendered, error in ((before, error_before), (after, error_after)):
        shares = np.abs(rendered - truth).mean(-1) / 255 / 0.3
        assert error.sum(-1) / 255 == pytest.approx(3 * np.clip(shares, 0, 1), abs=0.05)


@pytest.mark.parametrize(("wanted", "found"), [(0, 0), (1, 1), (100, 6)])
def test_as_many_scenes_as_asked_for(wanted, found, tmp_path):
    logger = logger_class(lightning.pytorch)()
    validate(lightning.pytorch, tmp_path, logger, log_images=wanted)
    assert sum(key.startswith(RENDERINGS) for key, *_ in logger.logged) == found


def test_every_validation_of_a_training_logs_but_the_sanity_check_does_not(tmp_path):
    logger = logger_class(lightning.pytorch)()
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    with stub_host.plugged_in(wrapper_class, tmp_path, inner_steps=1):
        options = dict(max_steps=4, val_check_interval=2, num_sanity_val_steps=1, gradient_clip_val=None)
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, logger=logger, **options)
        trainer.fit(wrapper_class(), stub_host.loader(4), stub_host.loader(2))
    assert [step for key, _, step, _ in logger.logged if key == RENDERINGS] == [2, 4]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = lightning.pytorch.loggers.TensorBoardLogger(tmp_path)
    assert validate(lightning.pytorch, tmp_path, logger, log_images=3) == []
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    tags = {f"{name}/{number}" for name in (RENDERINGS, MAPS) for number in range(3)}
    assert set(events.Tags()["images"]) == tags
    (image,) = events.Images(f"{RENDERINGS}/2")
    assert (image.height, image.width) == (host_stubs.H, 5 * host_stubs.W + 4 * GAP)


def test_a_logger_that_fails_ends_nothing_and_is_told_of_once(tmp_path):
    class Failing(logger_class(lightning.pytorch)):
        calls = 0

        def log_image(self, key, images, step=None, **kwargs):
            type(self).calls += 1
            raise ConnectionError("no route")

    (line,) = validate(lightning.pytorch, tmp_path, Failing(), log_images=6)
    assert "ConnectionError: no route" in line and "diff3r.log_images=0" in line
    assert Failing.calls == 1


def test_a_logger_without_images_is_told_of_once(tmp_path):
    logger = lightning.pytorch.loggers.CSVLogger(tmp_path)
    (line,) = validate(lightning.pytorch, tmp_path, logger, log_images=6)
    assert "CSVLogger takes none" in line


def test_without_a_logger_nothing_is_rendered_or_said(tmp_path, monkeypatch):
    monkeypatch.setattr("diff3r_plugin.plugin.scoring.image_logging.scene_sheets", None)
    assert validate(lightning.pytorch, tmp_path, False, log_images=6) == []


def test_only_the_first_rank_logs(tmp_path):
    logger = logger_class(lightning.pytorch)()
    wrapper_class = stub_host.make_wrapper_class(lightning.pytorch.LightningModule)
    wrapper_class.global_rank = 1
    with stub_host.plugged_in(wrapper_class, tmp_path, inner_steps=1):
        trainer = stub_host.make_trainer(lightning.pytorch, tmp_path, logger=logger)
        trainer.validate(wrapper_class(), stub_host.loader(1), verbose=False)
    assert logger.logged == []


def test_two_loggers_both_get_the_images(tmp_path):
    loggers = [logger_class(lightning.pytorch)() for _ in range(2)]
    validate(lightning.pytorch, tmp_path, loggers, log_images=1)
    assert [len(logger.logged) for logger in loggers] == [2, 2]
    assert torch.equal(*(torch.from_numpy(logger.logged[0][1]) for logger in loggers))
