"""Files of results."""

import enum
import json
from pathlib import Path

import pytest

from diff3r_plugin.strict_json import write_json


class Color(enum.Enum):
    RED = 1


def test_what_json_does_not_know_is_null_or_text(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"nan": float("nan"), "list": (1.0, float("inf")), 3: Path("a"), "true": True, "e": Color.RED})
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found == {"nan": None, "list": [1.0, None], "3": "a", "true": True, "e": "Color.RED"}


def test_a_file_is_replaced_in_one_go(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_json(path, {"run": 1})
    monkeypatch.setattr("os.replace", lambda scratch, place: None)
    write_json(path, {"run": 2})
    assert json.loads(path.read_text()) == {"run": 1}, "until the new file is complete, the old one is there"
    monkeypatch.undo()
    write_json(path, {"run": 3})
    assert json.loads(path.read_text()) == {"run": 3} and list(tmp_path.iterdir()) == [path]
