"""`diff3r doctor` names exactly what a checkout lacks, for every adapter and everything that it relies on."""

from __future__ import annotations

import pytest

from diff3r_plugin.cli import doctor
from diff3r_plugin.plugin.host import registry
from diff3r_plugin.plugin.host.checkout import Checkout, Expectation

ADAPTERS = registry.adapters()
EVERYTHING = [
    pytest.param(name, expectation, id=f"{name}: {expectation.symbol}")
    for name, adapter in ADAPTERS.items()
    for expectation in adapter.expectations
]


def write(folder, expectations: tuple[Expectation, ...], files: tuple[str, ...]) -> None:
    """Source files in which all of this is as expected, and nothing else."""
    symbols: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {file: {} for file in files}
    for expectation in expectations:
        owner, _, method = expectation.symbol.partition(".")
        symbols.setdefault(expectation.file, {}).setdefault(owner, {})[method] = expectation.parameters
    for file, classes in symbols.items():
        lines = []
        for owner, methods in classes.items():
            lines += [f"class {owner}:", "    kind = 'host'"]
            lines += [f"    {name}: object" for name in methods.get("", ())]
            for method, parameters in methods.items():
                if method:
                    lines += [f"    def {method}(self{''.join(f', {p}=None' for p in parameters)}):", "        pass"]
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def checkout_of(tmp_path):
    def make(name):
        adapter = ADAPTERS[name]
        write(tmp_path, adapter.expectations, adapter.fingerprints)
        return tmp_path

    return make


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_checkout_as_expected_is_recognized_and_has_no_problems(checkout_of, name, capsys):
    folder = checkout_of(name)
    adapter, found = registry.choose("auto", folder)
    assert adapter.name == name and adapter.problems(found) == []
    assert doctor.checkout(folder, "auto")
    out = capsys.readouterr().out
    count = len(adapter.expectations)
    assert f"{count} of {count} expectations hold" in out and "PROBLEM" not in out
    assert ("diff3r.context_poses" in out) is (not ADAPTERS[name].encoder_sees_poses)


@pytest.mark.parametrize(("name", "expectation"), EVERYTHING)
def test_whatever_is_missing_is_named(checkout_of, name, expectation, capsys):
    folder = checkout_of(name)
    adapter, path = ADAPTERS[name](), folder / expectation.file
    source = path.read_text()

    def only_problem() -> str:
        (problem,) = adapter.problems(Checkout(folder))
        assert not doctor.checkout(folder, name)
        assert f"PROBLEM: {problem}" in capsys.readouterr().out
        assert expectation.why in problem and problem.startswith(f"{expectation.file}: ")
        return problem

    _, _, method = expectation.symbol.partition(".")
    if method:
        path.write_text(source.replace(f"def {method}(", f"def {method}_of_tomorrow("))
        assert f"{expectation.symbol} is not defined" in only_problem()
    for parameter in expectation.parameters:
        if method:
            start = source.index(f"def {method}(")
            changed = source[:start] + source[start:].replace(f", {parameter}=", f", {parameter}_={parameter!r} or ", 1)
        else:
            changed = source.replace(f"    {parameter}: object", f"    {parameter}_: object", 1)
        path.write_text(changed)
        assert f"{expectation.symbol} has no {parameter} " in only_problem()
    if expectation.returns:
        start = source.index(f"def {method}(")
        path.write_text(source[:start] + source[start:].replace("        pass", "        return 1, 2, 3", 1))
        assert f"{expectation.symbol} returns tuple of 3 " in only_problem()
        path.write_text(source + "(\n")
        problems = adapter.problems(Checkout(folder))
        assert f"{expectation.file}: syntax error in line " in " ".join(problems)
    path.unlink()
    problems = adapter.problems(Checkout(folder))
    assert f"{expectation.file}: file is missing (needed for {expectation.why})" in problems


def test_a_forced_adapter_says_why_it_would_not_recognize_the_checkout(checkout_of, capsys):
    folder = checkout_of("mvsplat")
    missing = "src/model/encoder/encoder_costvolume.py"
    (folder / missing).unlink()
    assert not doctor.checkout(folder, "mvsplat")
    assert f"would not be recognized as mvsplat, since it has no {missing}" in capsys.readouterr().out
