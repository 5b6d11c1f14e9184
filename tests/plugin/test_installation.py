"""The package as it is installed: what is in it, and the start-up hook at work."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from diff3r_startup.installation import FILES

ROOT = Path(__file__).parents[2]
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ.get('DIFF3R_PLUGIN'), sorted(sys.modules)]))"


def shown(done):
    arguments, plugin, modules = json.loads(done.stdout.splitlines()[-1])
    return arguments, plugin, set(modules)


def test_everything_is_in_it(installed):
    script = """
import importlib.metadata, importlib.resources, diff3r_plugin, diff3r_adapters.mini_host, diff3r_startup
points = importlib.metadata.entry_points(group="diff3r")
assert {"mini_host", "mvsplat"} <= {p.name for p in points}, points
assert [p.load() for p in points]
assert importlib.metadata.version("diff3r-plugin") == diff3r_plugin.__version__
package = importlib.resources.files("diff3r_plugin")
for name in ("py.typed", "cli/templates/adapter.template", "drop_in/site/diff_gaussian_rasterization/__init__.py"):
    assert (package / name).is_file(), name
for name in ("run.html.j2", "run.css", "run.js", "splat_viewer.js"):
    assert (package / "report" / "templates" / name).is_file(), name
for folder, ending in (("math", ".h"), ("cpu", ".cpp"), ("cuda", ".cu")):
    assert any(path.name.endswith(ending) for path in (package / "kernels" / folder).iterdir()), folder
print(diff3r_plugin.__file__, diff3r_adapters.__file__)
"""
    plugin, adapters = installed.run("-c", script).stdout.split()
    inside = {"wheel": installed.site, "editable": installed.source}
    kind = "editable" if Path(plugin).is_relative_to(installed.source) else "wheel"
    assert Path(plugin).is_relative_to(inside[kind]) and Path(adapters).is_relative_to(inside[kind])


def test_the_demo_finds_its_host(installed):
    script = "from diff3r_plugin.demo.host import host_folder as f; import diff3r_plugin as p; print(f(), p.__file__)"
    host, plugin = map(Path, installed.run("-c", script).stdout.split())
    within = plugin.parents[1] / "examples" if plugin.is_relative_to(installed.source) else plugin.parent / "demo"
    assert host == within / "mini_host"

    def contents(folder):
        return {
            path.relative_to(folder): path.read_bytes()
            for kind in ("py", "yaml", "ckpt")
            for path in folder.rglob(f"*.{kind}")
        }

    assert contents(host) == contents(ROOT / "examples" / "mini_host")


def test_the_declared_version_is_that_of_the_package():
    import re

    from diff3r_plugin import __version__

    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared and declared[1] == __version__


def test_without_the_flag_nothing_is_imported(installed):
    arguments, plugin, modules = shown(installed.run("-c", SHOW, "a", "b"))
    assert arguments == ["a", "b"] and plugin is None
    assert not {name for name in modules if name.startswith("diff3r")}


@pytest.mark.parametrize("flag", [["--plugin", "diff3r"], ["--plugin=diff3r"]])
@pytest.mark.parametrize("form", ["-c", "script", "-m"])
def test_the_flag_is_taken_away_before_the_program_starts(installed, tmp_path, form, flag):
    (tmp_path / "shower.py").write_text(SHOW)
    start = {"-c": ["-c", SHOW], "script": [tmp_path / "shower.py"], "-m": ["-m", "shower"]}[form]
    arguments, plugin, modules = shown(installed.run(*start, "one", *flag, "diff3r.inner_steps=2", cwd=tmp_path))
    assert arguments == ["one", "diff3r.inner_steps=2"] and plugin == "diff3r"
    assert "torch" not in modules and "diff3r_plugin" not in modules, "start-up waits for the host"


@pytest.mark.parametrize("flag", [["--plugin", "other"], ["--plugin=other"], ["--plugins", "diff3r"], ["--plugin"]])
def test_other_programs_keep_their_own_plugin_option(installed, flag):
    arguments, plugin, _ = shown(installed.run("-c", SHOW, *flag))
    assert arguments == flag and plugin is None


@pytest.mark.parametrize("option", ["--plugin-dir=x", "--plugins", "--plugin-dir", "diff3r.py", "a=diff3r.x=1"])
def test_options_that_only_look_like_ours_import_nothing(installed, option):
    arguments, _, modules = shown(installed.run("-c", SHOW, option))
    assert arguments == [option] and not {name for name in modules if name.startswith("diff3r")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plugin", "difr3"], "unknown plugin 'difr3'"),
        (["--plugin"], "--plugin needs a name"),
        (["--plugin", "mode=test"], "--plugin needs a name"),
        (["diff3r.inner_steps=3"], "add --plugin diff3r"),
        (["--plugin", "diff3r", "diff3r.rasterizer=host"], "leave the setting out to use the drop-in"),
    ],
)
def test_mistakes_are_one_line_in_a_host_without_its_rasterizer(installed, words, message):
    done = installed.run("-c", "import hydra, diff_gaussian_rasterization", *words, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("diff3r: ") and message in line


PROBE = "import importlib.util as u; print(u.find_spec('diff_gaussian_rasterization'), u.find_spec('nothing'))"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--plugin", "other"],
        ["--plugin=anything"],
        ["--plugin"],
        ["--plugin", "difr3"],
        ["diff3r.inner_steps=3"],
        ["--plugin", "diff3r", "diff3r.rasterizer=host"],
    ],
)
def test_looking_for_a_rasterizer_ends_no_program(installed, words):
    assert installed.run("-c", PROBE, *words).stdout.strip() == "None None"


def test_a_host_may_fall_back_when_its_rasterizer_is_missing(installed):
    script = "try:\n    import diff_gaussian_rasterization\nexcept ImportError as error:\n    print(error.name)"
    done = installed.run("-c", script, "--plugin", "diff3r", "diff3r.rasterizer=host")
    assert done.stdout.strip() == "diff_gaussian_rasterization" and "not installed" not in done.stderr


@pytest.mark.parametrize("words", [["--plugin", "other"], ["--plugin=anything"], ["--plugin", "pytest_cov"]])
def test_another_plugins_name_arms_nothing(installed, words):
    script = "import sys, json; json.dump([type(f).__name__ for f in sys.meta_path] + list(sys.modules), sys.stdout)"
    found = json.loads(installed.run("-c", script, *words).stdout)
    assert "_PostImportFinder" not in found and "diff3r_startup.activation" not in found


def test_files_that_the_package_left_behind_are_quiet(installed, tmp_path):
    line = (installed.site / "diff3r_startup.pth").read_text()
    script = f"import sys; sys.modules['diff3r_startup'] = None; del sys.modules['diff3r_startup']\nexec({line!r})"
    gone = "import sys; sys.path[:] = [p for p in sys.path if 'lib/python' in p and 'site-packages' not in p]; "
    done = installed.run("-S", "-c", gone + script, "--plugin", "diff3r", check=False)
    assert done.returncode == 0 and done.stderr == "" and done.stdout == ""


def test_children_learn_of_it_from_the_environment(installed):
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SHOW!r}], check=True)"
    _, plugin, modules = shown(installed.run("-c", child, "--plugin", "diff3r"))
    assert plugin == "diff3r" and "diff3r_startup.activation" in modules


def test_the_environment_variable_can_switch_it_off(installed):
    script = "import sys; print(any(type(f).__name__ == '_PostImportFinder' for f in sys.meta_path))"
    for value, armed in (("diff3r", "True"), ("1x", "True"), ("", "True"), ("0", "True")):
        assert installed.run("-c", script, env={"DIFF3R_PLUGIN": value}).stdout.strip() == armed
    probe = "import diff3r_startup.arguments as a; print(a.active())"
    for value, active in (("diff3r", "True"), ("", "False"), ("0", "False"), ("off", "False")):
        assert installed.run("-c", probe, env={"DIFF3R_PLUGIN": value}).stdout.strip() == active


def test_the_idle_hook_costs_less_than_a_millisecond(installed):
    lines = [line for line in (installed.site / "diff3r_startup.pth").read_text().splitlines() if line]
    assert len(lines) == 1, "one line, so one look"
    script = f"import time; a = time.perf_counter(); exec({lines[0]!r}); print(time.perf_counter() - a)"
    seconds = min(float(installed.run("-c", script).stdout) for _ in range(3))
    assert seconds < 1e-3
    # Python >= 3.15 calls the function named in the .start file instead
    entry = (installed.site / "diff3r_startup.start").read_text().strip()
    assert entry == "diff3r_startup:start"
    script = (
        "import time; a = time.perf_counter(); import diff3r_startup as d; d.start(); print(time.perf_counter() - a)"
    )
    assert min(float(installed.run("-c", script).stdout) for _ in range(3)) < 5e-3


def test_an_error_inside_the_hook_reaches_nobody(installed, tmp_path):
    shutil.copytree(installed.source / "diff3r_startup", tmp_path / "diff3r_startup")
    (tmp_path / "diff3r_startup" / "activation.py").write_text("def arm():\n    raise RuntimeError('on purpose')\n")
    done = installed.run("-c", "print('alive')", "--plugin", "diff3r", env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout.strip() == "alive" and "on purpose" in done.stderr and "Traceback" not in done.stderr


def test_the_start_up_package_imports_only_sys_and_os():
    tree = ast.parse((ROOT / "diff3r_startup" / "__init__.py").read_text())
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert sorted(alias.name for node in top for alias in node.names) == ["os", "sys"]


def test_the_drop_in_rasterizer_is_served_only_with_the_plugin(installed, tmp_path):
    script = "import diff_gaussian_rasterization as d; print(d.__file__)"
    assert installed.run("-c", script, check=False).returncode != 0
    assert "drop_in/site" in installed.run("-c", script, "--plugin", "diff3r").stdout
    (tmp_path / "diff_gaussian_rasterization.py").touch()
    own = {"PYTHONPATH": str(tmp_path)}
    assert "drop_in/site" not in installed.run("-c", script, "--plugin", "diff3r", env=own).stdout
    forced = installed.run("-c", script, "--plugin", "diff3r", "diff3r.rasterizer=drop_in", cwd=ROOT.parent, env=own)
    assert "drop_in/site" in forced.stdout


def test_the_hook_can_be_removed_and_put_back(installed):
    command = ["-m", "diff3r_plugin.cli", "hook"]
    assert installed.run(*command, "--status").stdout.count("installed: ") == 2
    try:
        installed.run(*command, "--remove")
        assert installed.run(*command, "--status", check=False).returncode == 1
        arguments, plugin, _ = shown(installed.run("-c", SHOW, "--plugin", "diff3r"))
        assert arguments == ["--plugin", "diff3r"] and plugin is None
        # `diff3r run` needs no hook, reaches children, and leaves another sitecustomize in place
        run = ["-m", "diff3r_plugin.cli", "run", "--", str(installed.python)]
        child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SHOW!r}, '--plugin', 'diff3r'])"
        arguments, plugin, modules = shown(installed.run(*run, "-c", child))
        assert arguments == [] and plugin == "diff3r" and "diff3r_startup.activation" in modules
    finally:
        kept = {name: (ROOT / "diff3r_startup" / name).read_text() for name in FILES}
        installed.run(*command, "--install")
    assert {name: (installed.site / name).read_text() for name in FILES} == kept
    assert shown(installed.run("-c", SHOW, "--plugin", "diff3r"))[1] == "diff3r"


def test_run_lets_another_sitecustomize_run(installed, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('theirs')")
    run = ["-m", "diff3r_plugin.cli", "run", "--", str(installed.python), "-c", "import sys; print(sys.argv)"]
    done = installed.run(*run, "--plugin=diff3r", env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout.splitlines()[-2:] == ["theirs", "['-c']"]
