"""What is done to Hydra and Lightning once they are imported, shown on stand-ins for them."""

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from diff3r_plugin.plugin import session
from diff3r_startup import activation


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("DIFF3R_PLUGIN", "diff3r")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))


def make_hydra(seen):
    """The part of Hydra that matters: main(...)(task)() reads sys.argv and calls the task."""

    def main(config_name=None):
        def decorate(task):
            def run():
                seen["argv"] = list(sys.argv)
                seen["config_name"] = config_name
                return task({"mode": "train"})

            return run

        return decorate

    return SimpleNamespace(main=main)


def test_a_hydra_program_runs_inside_a_session(monkeypatch):
    seen = {}
    hydra = make_hydra(seen)
    activation._change_hydra(hydra)
    changed = hydra.main
    activation._change_hydra(hydra)
    assert hydra.main is changed, "a second change must do nothing"
    monkeypatch.setattr(session, "run", lambda task, config: ("in session", task(config)))
    monkeypatch.setattr(sys, "argv", ["main.py", "diff3r.inner_steps=2", "--plugin", "diff3r", "mode=train"])

    @hydra.main(config_name="main")
    def task(config):
        return config["mode"]

    for _ in range(2):  # DDP children see what the first run left in argv
        assert task() == ("in session", "train")
        assert seen["argv"][:3] == ["main.py", "++diff3r.inner_steps=2", "mode=train"]
        (version,) = seen["argv"][3:]
        assert version.startswith("++diff3r.version=") and seen["config_name"] == "main"


def test_without_the_plugin_a_hydra_program_is_left_alone(monkeypatch):
    monkeypatch.setenv("DIFF3R_PLUGIN", "off")
    seen = {}
    hydra = make_hydra(seen)
    activation._change_hydra(hydra)
    monkeypatch.setattr(session, "run", lambda *_: pytest.fail("no session was asked for"))
    monkeypatch.setattr(sys, "argv", ["main.py", "diff3r.inner_steps=2"])
    assert hydra.main()(lambda config: config["mode"])() == "train"
    assert seen["argv"] == ["main.py", "diff3r.inner_steps=2"]


def test_an_unknown_plugin_stops_a_hydra_program_before_it_starts(monkeypatch):
    seen = {}
    hydra = make_hydra(seen)
    activation._change_hydra(hydra)
    monkeypatch.setattr(sys, "argv", ["main.py", "--plugin", "difr"])
    with pytest.raises(SystemExit, match="unknown plugin 'difr'"):
        hydra.main()(lambda config: None)()
    assert seen == {}


def test_a_trainer_refuses_a_model_that_never_met_the_plugin(monkeypatch):
    class Trainer:
        def fit(self, model=None, *args, **kwargs):
            return "fitted"

        validate = test = predict = fit

    module = SimpleNamespace(Trainer=Trainer, LightningModule=type("LightningModule", (), {}))
    activation._change_lightning(module)
    first = Trainer.fit
    activation._change_lightning(module)
    assert Trainer.fit is first
    monkeypatch.setattr(session, "_current", None)
    with pytest.raises(SystemExit, match="was built without it"):
        Trainer().fit(SimpleNamespace())
    assert Trainer().fit(model=SimpleNamespace(_diff3r=object())) == "fitted"
    monkeypatch.setenv("DIFF3R_PLUGIN", "0")
    assert Trainer().test(SimpleNamespace()) == "fitted"


def test_modules_are_changed_right_after_their_import(monkeypatch, tmp_path):
    (tmp_path / "watched_module.py").write_text("value = 1\n")
    (tmp_path / "other_module.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(activation._TRIGGERS, "watched_module", lambda module: setattr(module, "value", 2))
    monkeypatch.setattr(sys, "argv", ["main.py"])
    activation.arm()
    activation.arm()
    assert sum(isinstance(f, activation._PostImportFinder) for f in sys.meta_path) == 1
    try:
        assert importlib.import_module("watched_module").value == 2
        assert importlib.import_module("other_module").value == 1
    finally:
        for name in ("watched_module", "other_module"):
            sys.modules.pop(name, None)


def test_the_flag_switches_on_what_the_environment_has_off(monkeypatch):
    monkeypatch.setenv("DIFF3R_PLUGIN", "0")
    monkeypatch.setattr(sys, "argv", ["main.py", "--plugin=diff3r"])
    activation.arm()
    assert os.environ["DIFF3R_PLUGIN"] == "diff3r" and sys.argv == ["main.py"]


def test_a_program_in_which_the_plugin_had_no_part_says_so_at_its_end(tmp_path):
    """With the start-up hook alone, as an environment of its own would have it: the flag, and no host."""
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1:])")
    code = (
        "import sys, runpy; sys.argv = ['script.py', '--plugin', 'diff3r', '--data', 'x']\n"
        "import diff3r_startup.activation as a; a.arm(); runpy.run_path('script.py', run_name='__main__')"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DIFF3R")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.strip() == "['--data', 'x']"
    assert done.stderr.count("had no part in this program") == 1


@pytest.mark.parametrize("begun", [True, False])
def test_a_program_that_met_the_plugin_or_hydra_ends_in_silence(monkeypatch, capsys, begun):
    monkeypatch.setattr(session, "_current", object() if begun else None)
    if not begun:
        monkeypatch.setitem(sys.modules, "hydra", SimpleNamespace())
    else:
        monkeypatch.delitem(sys.modules, "hydra", raising=False)
    activation._say_if_unused()
    assert capsys.readouterr().err == ""
