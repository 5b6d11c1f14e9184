"""A host's source tree, looked at without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Expectation:
    """Something an adapter relies on in a host's source.

    Args:
        file: Path below the checkout.
        symbol: ``Class``, ``Class.method`` or ``function`` that must be defined there; empty: the file is enough.
        parameters: Names that must be among the function's parameters; for a class, among its annotated fields.
        why: What the plugin needs it for.
    """

    file: str
    symbol: str = ""
    parameters: tuple[str, ...] = ()
    why: str = ""

    def problem(self, checkout: Checkout) -> str | None:
        """What differs in a checkout, or None when it is as expected."""
        if not (checkout.root / self.file).is_file():
            return f"{self.file}: file is missing (needed for {self.why})"
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
        return None


class Checkout:
    """The folder that holds a host's ``src``.

    Args:
        root: The folder; need not exist (then it holds nothing).
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).resolve()
        self._trees: dict[str, ast.Module | None] = {}

    def has(self, *files: str) -> bool:
        """Whether all these files are there."""
        return all((self.root / file).is_file() for file in files)

    def text(self, file: str) -> str:
        """Contents of a file, or "" when there is none."""
        path = self.root / file
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def parameters(self, file: str, symbol: str) -> list[str] | None:
        """Parameters of a function, or annotated fields of a class; None when it is not defined."""
        if file not in self._trees:
            try:
                self._trees[file] = ast.parse(self.text(file))
            except SyntaxError:
                self._trees[file] = None
        node: ast.AST | None = self._trees[file]
        for part in symbol.split("."):
            node = next(
                (
                    child
                    for child in getattr(node, "body", [])
                    if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and child.name == part
                ),
                None,
            )
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

    @cached_property
    def commit(self) -> str | None:
        """The commit that is checked out, read from ``.git``; None where there is no git folder."""
        git = self.root / ".git"
        try:
            if git.is_file():
                git = (self.root / git.read_text().split(":", 1)[1].strip()).resolve()
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
