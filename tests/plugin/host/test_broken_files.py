"""Files that a host cannot read: one line that names the file, its trouble and the cure."""

import re

import lightning.pytorch
import pytest
import torch
from plugin import stub_host

from diff3r_plugin.plugin import session
from diff3r_plugin.plugin.host.broken_files import explained, trouble_with


def written(path):
    torch.save({"weights": torch.randn(500), "step": 3}, path)
    return path.read_bytes()


def cut(path):
    path.write_bytes(written(path)[:700])


def damaged(path):
    content = bytearray(written(path))
    content[900:940] = bytes(40)
    path.write_bytes(content)


TROUBLE = {
    "missing": (lambda path: None, "does not exist"),
    "misspelled": (lambda path: written(path.with_name("lats.ckpt")), r"Did you mean .*lats\.ckpt"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "empty": (lambda path: path.touch(), r"is empty \(0 bytes\)"),
    "truncated": (cut, "is truncated .*after 700 bytes.*download it again"),
    "something else": (lambda path: path.write_text("epoch: 3\n" * 20), "is no file that torch.save wrote"),
    "a pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid 1"), "git lfs pull"),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html>"), "is a web page"),
}


def config(tmp_path, name="last.ckpt"):
    return {"checkpointing": {"load": str(tmp_path / name)}, "dataset": {"roots": [str(tmp_path / "data")]}}


@pytest.mark.parametrize("kind", TROUBLE)
@pytest.mark.parametrize("weights_only", [True, False])
def test_a_checkpoint_that_torch_cannot_load(tmp_path, kind, weights_only):
    make, message = TROUBLE[kind]
    path = tmp_path / "last.ckpt"
    make(path)
    with pytest.raises(Exception) as caught:
        torch.load(path, weights_only=weights_only)
    line = explained(caught.value, config(tmp_path))
    assert line.startswith(f"{path} ") and re.search(message, line) and "(checkpointing.load)" in line
    assert "\n" not in line


def test_damage_is_found_by_checksums(tmp_path):
    damaged(tmp_path / "last.ckpt")
    assert re.match(r"is damaged \(in .*\)\. Copy", trouble_with(tmp_path / "last.ckpt"))


def test_a_whole_file_is_not_blamed(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"x": re.compile("x")}, path)
    with pytest.raises(Exception) as caught:
        torch.load(path, weights_only=True)
    assert trouble_with(path) is None and explained(caught.value, config(tmp_path)) is None


def test_lightnings_own_ways_of_loading(tmp_path):
    class Module(lightning.pytorch.LightningModule):
        def test_step(self, batch, index):
            pass

    trainer = stub_host.make_trainer(lightning.pytorch, tmp_path)
    cut(tmp_path / "cut.ckpt")
    for name, message in (("cut.ckpt", "is truncated"), ("missing.ckpt", "does not exist; checkpointing.load names")):
        with pytest.raises(Exception) as caught:
            trainer.test(Module(), [1], ckpt_path=str(tmp_path / name))
        assert message in explained(caught.value, config(tmp_path, name))


class Chunks(torch.utils.data.Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.load(self.paths[index])["step"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_chunk_that_cannot_be_read(tmp_path, workers):
    folder = tmp_path / "data" / "test"
    folder.mkdir(parents=True)
    paths = [folder / f"{index:06d}.torch" for index in range(3)]
    written(paths[0])
    cut(paths[1])
    cut(paths[2])
    with pytest.raises(RuntimeError) as caught:
        list(torch.utils.data.DataLoader(Chunks(paths), num_workers=workers))
    line = explained(caught.value, config(tmp_path))
    assert line.startswith(f"{paths[1]} is truncated") and "(dataset.roots)" in line
    assert ("2 chunks of this data are like that" in line) == bool(workers)


def test_data_that_is_not_there(tmp_path):
    for path, message in (
        (tmp_path / "data" / "test" / "index.json", r"data does not exist; dataset\.roots names it"),
        (tmp_path / "elsewhere.txt", None),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            open(path)
        line = explained(caught.value, config(tmp_path))
        assert line is None if message is None else re.search(message, line)
    (tmp_path / "data").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        open(tmp_path / "data" / "index.json")
    assert "expected in" in explained(caught.value, config(tmp_path))


class TestTheProcess:
    @pytest.fixture(autouse=True)
    def begun(self, monkeypatch):
        from types import SimpleNamespace

        monkeypatch.setattr(session, "begin", lambda config, start: SimpleNamespace(errors=[]))
        monkeypatch.delenv("DIFF3R_TRACEBACK", raising=False)

    def main(self, settings):
        torch.load(settings["checkpointing"]["load"])

    def test_ends_with_one_line(self, tmp_path):
        cut(tmp_path / "last.ckpt")
        with pytest.raises(SystemExit, match=r"^diff3r: .*last.ckpt is truncated.*DIFF3R_TRACEBACK=1") as caught:
            session.run(self.main, config(tmp_path))
        assert "\n" not in str(caught.value)

    def test_shows_everything_where_it_is_asked_to(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DIFF3R_TRACEBACK", "1")
        cut(tmp_path / "last.ckpt")
        with pytest.raises(RuntimeError, match="central directory"):
            session.run(self.main, config(tmp_path))

    def test_keeps_the_traceback_of_a_hosts_own_errors(self, tmp_path):
        def broken(settings):
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            session.run(broken, config(tmp_path))
