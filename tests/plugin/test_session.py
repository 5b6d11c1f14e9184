"""The session: begins once with a host's configuration, ends cleanly, and refuses what cannot work."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from omegaconf import OmegaConf

from diff3r_plugin.plugin import session
from diff3r_plugin.plugin.errors import announced

MAIN = Path(__file__).parents[2] / "examples" / "mini_host" / "src" / "main.py"


@pytest.fixture
def imported_host(monkeypatch):
    """Pretends that the miniature host has been imported."""

    class ModelWrapper:
        def training_step(self):
            return "plain"

    module = ModuleType("src.model.model_wrapper")
    module.ModelWrapper = ModelWrapper
    monkeypatch.setitem(sys.modules, "src.model.model_wrapper", module)
    monkeypatch.setattr(session, "_current", None)
    return ModelWrapper


def test_it_begins_once_and_ends_without_a_trace(imported_host, capsys):
    before = dict(vars(imported_host))
    config = OmegaConf.create({"mode": "train", "diff3r": {"inner_steps": 2}})
    begun = session.begin(config, MAIN)
    assert session.begin(config, MAIN) is begun is session.current()
    assert begun.settings.tto.inner_steps == 2 and begun.adapter.name == "mini_host"
    assert capsys.readouterr().err.count("[diff3r]") == 1
    assert {patch.attribute for patch in begun.patches} >= {"__init__", "training_step", "on_save_checkpoint"}
    begun.end()
    assert session.current() is None and dict(vars(imported_host)) == before


def test_every_effective_setting_is_in_the_runs_folder(imported_host, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "run_folder", lambda: tmp_path)
    session.begin({"diff3r": {"inner_steps": 2}}, MAIN).end()
    found = json.loads((tmp_path / "diff3r_settings.json").read_text())
    assert found["adapter"] == "mini_host" and found["host"]["folder"] == str(MAIN.parents[1])
    assert found["settings"]["tto"]["inner_steps"] == 2 and found["settings"]["tto"]["pcg_tolerance"] == 0.01
    assert found["settings"]["head_width"] == 32


def test_a_folder_that_takes_nothing_does_not_stop_the_run(imported_host, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(session, "run_folder", lambda: tmp_path / "file")
    session.begin({}, MAIN).end()
    assert "the settings could not be written to" in capsys.readouterr().err


def test_other_ranks_are_silent(imported_host, capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    session.begin({}, MAIN).end()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapter": "mini_hots"}, "diff3r: unknown adapter 'mini_hots'. Did you mean 'mini_host'"),
        ({"weights": {"means": -1}}, "diff3r: diff3r.weights.means must be a positive number, got -1"),
        ({"iner_steps": 1}, "Did you mean 'diff3r.inner_steps'"),
        ({"context_poses": "estimate"}, "context_poses=estimate does not fit adapter 'mini_host'"),
        ({"backend": "native", "groups": []}, "groups is empty"),
    ],
)
def test_bad_settings_end_the_process_with_one_message(imported_host, settings, message):
    task = main_function("pytest.fail('it must not run')")
    before = dict(vars(imported_host))
    with pytest.raises(SystemExit) as caught:
        session.run(task, {"diff3r": settings})
    assert message in str(caught.value)
    assert dict(vars(imported_host)) == before and session.current() is None


def main_function(body):
    """A function that says it is defined in the miniature host's main file."""
    scope = {"pytest": pytest, "session": session}
    exec(compile(f"def main(config):\n    {body}", str(MAIN), "exec"), scope)
    return scope["main"]


def test_the_hosts_own_result_is_passed_on(imported_host):
    assert session.run(main_function("return config['mode']"), {"mode": "test"}) == "test"
    session.current().end()


def test_a_plugin_error_from_within_the_host_is_one_message(imported_host):
    with pytest.raises(SystemExit) as caught:
        session.run(main_function("raise session.PluginError('put this right')"), {})
    assert caught.value.code == "diff3r: put this right"
    session.current().end()


def test_an_error_that_the_host_swallows_is_printed_and_remembered(imported_host, capsys):
    """HiSplat catches everything around its training, and goes on."""
    body = """
    try:
        config["fail"]()
    except BaseException:
        return "done"
    """
    begun = session.begin({}, MAIN)

    def step():
        raise session.PluginError("put this right")

    with pytest.raises(SystemExit) as caught:
        session.run(main_function(body), {"fail": announced(step, begun.context.report_error)})
    assert capsys.readouterr().err.count("diff3r: put this right") == 1
    assert caught.value.code == "diff3r: the host went on after this error: put this right"
    begun.end()


def test_a_checkout_that_differs_is_refused_with_the_list(imported_host, tmp_path):
    for name in ("src/model/model_wrapper.py", "src/model/encoder/encoder_planesweep.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(session.PluginError, match=r"(?s)differs.*types.py: file is missing.*training_step is not def"):
        session.begin({}, tmp_path)
    assert session.current() is None


def test_a_model_built_without_the_plugin_is_refused(monkeypatch):
    monkeypatch.setattr(session, "_current", None)
    with pytest.raises(SystemExit, match=r"was built without it.*hydra\.main"):
        session.require_attached(SimpleNamespace())
    session.require_attached(None)
    session.require_attached(SimpleNamespace(_diff3r=object()))
