"""A host's source tree, looked at without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diff3r_plugin.plugin.host.return_kinds import returned_kinds


@dataclass(frozen=True)
class Expectation:
    """Something an adapter relies on in a host's source.

    Args:
        file: Path below the checkout.
        symbol: ``Class``, ``Class.method`` or ``function`` that must be defined there; empty: the file is enough.
        parameters: Names that must be among the function's parameters; for a class, among its annotated fields.
        why: What the plugin needs it for.
        returns: Kinds of value the function may return, names of classes or "dict" or "tuple of 2"; empty: any.
    """

    file: str
    symbol: str = ""
    parameters: tuple[str, ...] = ()
    why: str = ""
    returns: tuple[str, ...] = ()

    def problem(self, checkout: Checkout) -> str | None:
        """What differs in a checkout, or None when it is as expected."""
        if not (checkout.root / self.file).is_file():
            return f"{self.file}: file is missing (needed for {self.why})"
        if (error := checkout.syntax_error(self.file)) is not None:
            return f"{self.file}: {error} (needed for {self.why})"
        if not self.symbol:
            return None
        names = checkout.parameters(self.file, self.symbol)
        if names is None:
            return f"{self.file}: {self.symbol} is not defined (needed for {self.why})"
        missing = [p for p in self.parameters if p not in names]
        if missing:
            return (
                f"{self.file}: {self.symbol} has no {', '.join(missing)} (needed for {self.why}); "
                f"found: {', '.join(names) or 'nothing'}"
            )
        others = checkout.returns(self.file, self.symbol) - set(self.returns) if self.returns else set()
        if others:
            return (
                f"{self.file}: {self.symbol} returns {' or '.join(sorted(others))} (needed for {self.why}); "
                f"expected: {' or '.join(self.returns)}. Is this a relative of the host, and not the host itself?"
            )
        return None


class Checkout:
    """The folder that holds a host's ``src``.

    Args:
        root: The folder; need not exist (then it holds nothing).
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).resolve()
        self._trees: dict[str, ast.Module | SyntaxError] = {}

    def has(self, *files: str) -> bool:
        """Whether all these files are there."""
        return all((self.root / file).is_file() for file in files)

    def text(self, file: str) -> str:
        """Contents of a file, or "" when there is none."""
        path = self.root / file
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def syntax_error(self, file: str) -> str | None:
        """Why a file is no Python, in words; None when it is."""
        tree = self._tree(file)
        if not isinstance(tree, SyntaxError):
            return None
        return f"syntax error in line {tree.lineno}: {tree.msg}: {(tree.text or '').strip()!r}"

    def parameters(self, file: str, symbol: str) -> list[str] | None:
        """Parameters of a function, or annotated fields of a class; None when it is not defined."""
        node = self._node(file, symbol)
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        if isinstance(node, ast.ClassDef):
            return [
                child.target.id
                for child in node.body
                if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name)
            ]
        return None

    def returns(self, file: str, symbol: str) -> set[str]:
        """Kinds of value a function returns, as far as its source tells."""
        node = self._node(file, symbol)
        return returned_kinds(node) if isinstance(node, ast.FunctionDef) else set()

    def _tree(self, file: str) -> ast.Module | SyntaxError:
        if file not in self._trees:
            try:
                self._trees[file] = ast.parse(self.text(file))
            except SyntaxError as error:
                self._trees[file] = error
        return self._trees[file]

    def _node(self, file: str, symbol: str) -> ast.AST | None:
        tree = self._tree(file)
        node: ast.AST | None = tree if isinstance(tree, ast.Module) else None
        for part in symbol.split("."):
            node = next(
                (
                    child
                    for child in getattr(node, "body", [])
                    if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and child.name == part
                ),
                None,
            )
        return node

    @cached_property
    def commit(self) -> str | None:
        """The commit that is checked out, read from ``.git`` here or one folder above; None where there is none."""
        root = self.root if (self.root / ".git").exists() else self.root.parent  # some repositories hold several hosts
        git = root / ".git"
        try:
            if git.is_file():
                git = (root / git.read_text().split(":", 1)[1].strip()).resolve()
            head = (git / "HEAD").read_text().strip()
            if not head.startswith("ref:"):
                return head
            reference = head.split(None, 1)[1]
            if (git / reference).is_file():
                return (git / reference).read_text().strip()
            for line in (git / "packed-refs").read_text().splitlines():
                if line.endswith(" " + reference):
                    return line.split()[0]
        except (OSError, IndexError):
            pass
        return None
