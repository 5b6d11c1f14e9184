"""A host's source is read without being imported."""

import pytest

from diff3r_plugin.plugin import Checkout, Expectation

SOURCE = """
import not_installed_anywhere

@decorated
class Model:
    size: int
    name: "str" = "x"

    @also_decorated
    def step(self, batch, *, index=None):
        pass

def helper(a, /, b):
    pass

class Encoder:
    def annotated(self) -> Gaussians:
        return something

    def forward(self):
        def inner():
            return [1]
        output = {"gaussians": 1}
        if later:
            return Gaussians(1), (2, 3)
        return output
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "model.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("class Encoder:\n    def forward(self:\n        pass\n")
    return Checkout(tmp_path)


@pytest.mark.parametrize(
    ("symbol", "parameters"),
    [
        ("Model", ["size", "name"]),
        ("Model.step", ["self", "batch", "index"]),
        ("helper", ["a", "b"]),
        ("Model.stop", None),
        ("Absent", None),
    ],
)
def test_parameters(checkout, symbol, parameters):
    assert checkout.parameters("model.py", symbol) == parameters


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        (Expectation("model.py", "Model.step", ("batch",), "x"), None),
        (Expectation("model.py"), None),
        (Expectation("model.py", "Encoder.annotated", (), "x", ("Gaussians",)), None),
        (Expectation("model.py", "Encoder.forward", (), "x", ("dict", "tuple of 2")), None),
        (
            Expectation("model.py", "Encoder.forward", (), "x", ("Gaussians", "dict")),
            "model.py: Encoder.forward returns tuple of 2 (needed for x); expected: Gaussians or dict. Is this a "
            "relative of the host, and not the host itself?",
        ),
        (
            Expectation("broken.py", "Encoder.forward", (), "x"),
            "broken.py: syntax error in line 2: '(' was never closed: 'def forward(self:' (needed for x)",
        ),
        (Expectation("absent.py", "", (), "x"), "absent.py: file is missing (needed for x)"),
        (Expectation("model.py", "Model.stop", (), "x"), "model.py: Model.stop is not defined (needed for x)"),
        (
            Expectation("model.py", "helper", ("a", "c", "d"), "x"),
            "model.py: helper has no c, d (needed for x); found: a, b",
        ),
    ],
)
def test_expectations_say_what_differs(checkout, expectation, problem):
    assert expectation.problem(checkout) == problem


def test_source_that_does_not_parse_defines_nothing(tmp_path):
    (tmp_path / "model.py").write_text("def broken(:")
    assert Checkout(tmp_path).parameters("model.py", "broken") is None


@pytest.mark.parametrize("form", ["detached", "loose", "packed", "worktree"])
def test_the_commit_is_read_from_git(tmp_path, form):
    git = tmp_path / ".git"
    if form == "worktree":
        git.write_text("gitdir: ../elsewhere\n")
        git = tmp_path.parent / "elsewhere"
    git.mkdir()
    (git / "HEAD").write_text(COMMIT if form in ("detached", "worktree") else "ref: refs/heads/main\n")
    if form == "loose":
        (git / "refs" / "heads").mkdir(parents=True)
        (git / "refs" / "heads" / "main").write_text(COMMIT + "\n")
    if form == "packed":
        (git / "packed-refs").write_text(f"# pack-refs\n{COMMIT} refs/heads/main\n")
    assert Checkout(tmp_path).commit == COMMIT
    assert Checkout(tmp_path / "one_of_several_hosts").commit == COMMIT


def test_no_git_no_commit(tmp_path):
    assert Checkout(tmp_path).commit is None
