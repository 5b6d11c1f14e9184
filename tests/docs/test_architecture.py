"""The layers of ``docs/architecture.md`` are real: nothing imports from above, in circles, or grows without end."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import diff3r_plugin

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = {"diff3r_plugin": ROOT / "diff3r_plugin", "diff3r_adapters": ROOT / "adapters"}
STARTUP = ROOT / "diff3r_startup"
LONGEST, LONGEST_FUNCTION = 500, 60


def layers() -> dict[str, int]:
    """Module or package -> layer, from the block of the page that starts with ``layers``."""
    (block,) = re.findall(r"```layers\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, int] = {}
    for line in block.splitlines():
        number, *names = line.split()
        for name in names:
            assert name not in found, f"{name} stands in two layers of {PAGE.name}"
            found[name] = int(number)
    return found


def modules() -> dict[str, Path]:
    """Every module of the two packages by its dotted name; the drop-in's folder is a path entry of its own."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            if "site" in parts:
                continue
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path, only_at_the_top: bool = False) -> set[str]:
    """Dotted names that a file imports: deferred imports and those for type checkers alone included."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if only_at_the_top and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: write imports in full"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def resolved(name: str) -> str | None:
    """The module of ours that an imported name leads to, through the lazy names of the package's own top."""
    package, _, rest = name.partition(".")
    if package not in PACKAGES:
        return None
    if package == "diff3r_plugin" and rest in diff3r_plugin._HOMES:
        return f"diff3r_plugin.{diff3r_plugin._HOMES[rest]}"
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


GRAPH = {
    module: {found for name in imports(path) if (found := resolved(name)) and found != module}
    for module, path in MODULES.items()
    if module
    != "diff3r_plugin"  # holds names only, whose modules are loaded when asked for; `resolved` sees through them
}


def layer_of(module: str, known: dict[str, int]) -> int:
    if module == "diff3r_plugin":
        return 0
    package, _, rest = module.partition(".")
    place = "adapters" if package == "diff3r_adapters" else rest.split(".")[0]
    assert place in known, f"{module} has no layer: add {place!r} to the layers of docs/architecture.md"
    return known[place]


def test_every_layer_names_modules_that_exist():
    places = {"adapters" if m.startswith("diff3r_adapters") else m.split(".")[1] for m in MODULES if "." in m}
    assert set(layers()) == places | {"adapters"}, "docs/architecture.md names a module that is gone, or lacks one"


def test_nothing_imports_from_a_higher_layer():
    known = layers()
    climbing = [
        f"{module} (layer {layer_of(module, known)}) imports {used} (layer {layer_of(used, known)})"
        for module, uses in GRAPH.items()
        for used in uses
        if layer_of(used, known) > layer_of(module, known)
    ]
    assert not climbing, "\n".join(climbing)


def rooms() -> dict[str, list[str]]:
    """Package -> its rooms from the outermost to the innermost, from the blocks that start with ``rooms``."""
    blocks = re.findall(r"```rooms (\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {f"diff3r_plugin.{package}": block.split() for package, block in blocks}


def room_of(module: str, package: str) -> str:
    """The room a module lies in: a folder of the package, or a file that is a room by itself."""
    return module.removeprefix(f"{package}.").partition(".")[0]


@pytest.mark.parametrize(("package", "order"), sorted(rooms().items()))
def test_rooms_within_a_package_import_inward_only(package, order):
    # what starts the plugin, and what other packages import from it, stand beside ``session``
    inside = {m for m in MODULES if m.startswith(f"{package}.")}
    rank = {room: number for number, room in enumerate(order)} | {"without_hydra": -1, "contract": -1}
    lost = sorted(m for m in inside if room_of(m, package) not in rank)
    assert not lost, f"no room of {PAGE.name}: {lost}"
    climbing = [
        f"{module} imports {used}"
        for module in inside
        for used in GRAPH[module] & inside
        if rank[room_of(used, package)] < rank[room_of(module, package)]
    ]
    assert not climbing, "\n".join(climbing)


def test_no_import_cycles():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail("modules import each other: " + " -> ".join(error.args[1]))


def test_a_batch_is_read_through_the_adapter_only():
    """What lies where in a host's batch is a matter of the host."""
    reads = re.compile(r"""batch\[["']""")
    readers = [m for m, path in MODULES.items() if "plugin.plugin." in m and reads.search(path.read_text("utf-8"))]
    assert readers == ["diff3r_plugin.plugin.host.adapter"], "read batches in the adapter: hosts have other keys"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_stay_short(module):
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{module} has {lines} lines; split it"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_functions_stay_short(module):
    """Their code; a docstring may be as long as it has to be."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            code = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (node.end_lineno or 0) - code[0].lineno + 1 if code else 0
            assert lines <= LONGEST_FUNCTION, f"{module}.{node.name} has {lines} lines; split it"


def test_the_start_up_hook_imports_nothing_that_costs_time():
    for path in STARTUP.glob("*.py"):
        for name in imports(path, only_at_the_top=True):
            top = name.partition(".")[0]
            assert top == "diff3r_startup" or top in sys.stdlib_module_names, f"{path.name} imports {name} at its top"
    assert imports(STARTUP / "__init__.py", only_at_the_top=True) == {"os", "sys"}
