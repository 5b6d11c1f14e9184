"""The command line: subcommands, doctor on good and mutated checkouts, the adapter scaffold."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diff3r_plugin import cli
from diff3r_plugin.cli.main import build_parser, main

MINI_HOST = Path(__file__).parents[2] / "examples" / "mini_host"


@pytest.fixture
def checkout(tmp_path):
    return Path(shutil.copytree(MINI_HOST, tmp_path / "host", ignore=shutil.ignore_patterns("outputs", "__pycache__")))


def test_every_subcommand_is_found_and_explains_itself(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    modules = {path.stem.replace("_", "-") for path in Path(cli.__path__[0]).glob("[a-z]*.py")} - {"main"}
    assert {"doctor", "adapters", "hook", "run", "make-data"} <= modules
    for name in ("doctor", "adapters", "hook", "run", "make-data"):
        assert name in text
        with pytest.raises(SystemExit) as caught:
            build_parser().parse_args([name, "--help"])
        assert caught.value.code == 0


def test_doctor_passes_on_the_miniature_host(checkout, capsys):
    assert main(["doctor", str(checkout)]) == 0
    text = capsys.readouterr().out
    assert "mini_host" in text and "PROBLEM" not in text
    for expected in (
        "training_step",
        "encoder.forward",
        "render backends",
        "encoder.to_gaussians",
        "named_parameters",
        "zero_grad",
        "nn.Module.__init_subclass__",
        "hydra.main",
        "Trainer.fit",
    ):
        assert expected in text


def test_doctor_says_where_a_hosts_configuration_decides_what_is_refined_and_read(checkout, capsys, monkeypatch):
    from diff3r_adapters.mini_host import MiniHost
    from diff3r_plugin.plugin import RefinedMethod

    assert main(["doctor", str(checkout)]) == 0
    assert "encoder.forward (refines), data_shim" in capsys.readouterr().out
    monkeypatch.setattr(MiniHost, "refined", RefinedMethod("predict"))
    monkeypatch.setattr(MiniHost, "refined_of", lambda self, encoder: RefinedMethod("update"))
    monkeypatch.setattr(MiniHost, "tap_of", lambda self, encoder: None)
    assert main(["doctor", str(checkout)]) == 0
    text = capsys.readouterr().out
    assert "encoder.predict (refines, or another method where the encoder's configuration decides so)" in text
    assert "the head reads features from where the encoder's configuration has them" in text
    assert "no feature map is tapped" not in text


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("src/model/types.py", "harmonics:", "sh:", "src/model/types.py: Gaussians has no harmonics"),
        ("src/model/model_wrapper.py", "def test_step", "def tset_step", "ModelWrapper.test_step is not defined"),
        (
            "src/model/decoder/decoder_splatting_cuda.py",
            "image_shape",
            "shape",
            "DecoderSplattingCUDA.forward has no image_shape",
        ),
        ("src/model/types.py", None, None, "src/model/types.py: file is missing"),
    ],
)
def test_doctor_says_what_differs(checkout, capsys, file, old, new, problem):
    path = checkout / file
    if old is None:
        path.unlink()
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    assert main(["doctor", str(checkout)]) == 1
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if "PROBLEM" in line]
    assert any(problem in line for line in lines), lines
    assert "would be patched" not in text and "a run with the flag ends at its start" in text


def test_doctor_on_an_unknown_folder(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 1
    assert "is no host that any adapter recognizes" in capsys.readouterr().err


def test_doctor_without_a_checkout(capsys):
    assert main(["doctor"]) == 0
    assert "start-up hook" in capsys.readouterr().out


def test_adapters_are_listed(capsys):
    assert main(["adapters"]) == 0 and main(["adapters", "list"]) == 0
    text = capsys.readouterr().out
    assert text.count("https://github.com/donydchen/mvsplat (verified at 175b17a)") == 2


@pytest.mark.parametrize("base", ["PixelSplatFamily", "HostAdapter"])
def test_a_scaffolded_adapter_passes_the_contract(tmp_path, capsys, monkeypatch, base):
    assert main(["adapters", "new", "my_host", "--base", base, "--into", str(tmp_path)]) == 0
    folder = tmp_path / "diff3r-my-host"
    assert {p.name for p in folder.iterdir()} == {"diff3r_my_host.py", "test_diff3r_my_host.py", "pyproject.toml"}
    monkeypatch.syspath_prepend(str(folder))
    try:
        import test_diff3r_my_host as module

        case = module.TestMyHost()
        assert base in [parent.__name__ for parent in type(case.example().adapter).__mro__]
        checks = [name for name in dir(case) if name.startswith("test_")]
        assert len(checks) >= 7
        for name in checks:
            getattr(case, name)()
    finally:
        for name in ("diff3r_my_host", "test_diff3r_my_host"):
            sys.modules.pop(name, None)
    assert main(["adapters", "new", "my_host", "--into", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["My-Host", "class", "MyHost", "2d"])
def test_a_scaffold_needs_a_module_name(tmp_path, name, capsys):
    assert main(["adapters", "new", name, "--into", str(tmp_path)]) == 2
    assert "cannot be a module name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "give the host's command"),
        (["run", "--", "no-such-command-anywhere"], "no command 'no-such-command-anywhere'"),
        (["run", "--plugin", "difr", "--", "python"], "unknown plugin 'difr'"),
    ],
)
def test_run_explains_what_is_wrong(arguments, message, monkeypatch, capsys):
    monkeypatch.delenv("DIFF3R_PLUGIN", raising=False)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("diff3r run: ") and message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "PASSIVE None"), ({"OMP_WAIT_POLICY": "active"}, "active None"), ({"GOMP_SPINCOUNT": "7"}, "None 7")],
)
def test_idle_threads_of_our_own_commands_sleep_unless_the_user_says_otherwise(given, found):
    code = (
        "import os; from diff3r_plugin.cli.main import main; main(['adapters']); "
        "print(*(os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')))"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    said = subprocess.run([sys.executable, "-c", code], env={**clean, **given}, capture_output=True, text=True)
    assert said.stdout.splitlines()[-1] == found


def test_a_host_keeps_the_threads_that_it_would_have(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert main(["run"]) == 2
    assert "OMP_WAIT_POLICY" not in os.environ
