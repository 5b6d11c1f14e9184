"""What a function returns, read from its source: enough to tell a host from a relative that answers differently.

The other two ways, `call_reader` and `ray_check`, need a run; this one is what `diff3r doctor` has before any import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

ANY = {"Any", "object"}
NOTHING = {"None"}


def returned_kinds(function: ast.FunctionDef) -> set[str]:
    """Kinds of value: names of classes, "dict", "tuple of 2"; what cannot be told is left out.

    Args:
        function: Its definition. An annotation is believed; without one the return statements are looked at.

    Example:
        >>> import ast
        >>> from diff3r_plugin.plugin.host.return_kinds import returned_kinds
        >>> sorted(returned_kinds(ast.parse("def f(x) -> Gaussians | dict: ...").body[0]))
        ['Gaussians', 'dict']
        >>> returned_kinds(ast.parse("def f(x): return Gaussians(x), [x], 3").body[0])
        {'tuple of 3'}
    """
    if function.returns is not None:
        found = set(_annotated(function.returns))
    else:
        statements = list(_own_statements(function))
        found = {
            kind
            for statement in statements
            if isinstance(statement, ast.Return) and (kind := _kind(statement.value, statements)) is not None
        }
    return found - ANY - NOTHING


def _annotated(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.BinOp):  # A | B
        yield from _annotated(node.left)
        yield from _annotated(node.right)
    elif isinstance(node, ast.Subscript):
        name = ast.unparse(node.value).rpartition(".")[2]
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name in ("Optional", "Union"):
            for argument in arguments:
                yield from _annotated(argument)
        elif name in ("tuple", "Tuple"):
            yield f"tuple of {len(arguments)}"
        else:
            yield "dict" if name == "Dict" else name
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _annotated(ast.parse(node.value, mode="eval").body)
    else:
        yield ast.unparse(node).rpartition(".")[2]


def _own_statements(node: ast.AST) -> Iterator[ast.AST]:
    """Everything inside a function, without what functions inside of it hold."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield child
            yield from _own_statements(child)


def _kind(value: ast.expr | None, statements: list[ast.AST], through_name: bool = True) -> str | None:
    if isinstance(value, ast.Dict):
        return "dict"
    if isinstance(value, ast.Tuple):
        return f"tuple of {len(value.elts)}"
    if isinstance(value, ast.List):
        return "list"
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).rpartition(".")[2]
        return name if name[:1].isupper() or name == "dict" else None
    if isinstance(value, ast.Name) and through_name:  # the last thing that was called by that name
        assigned = [
            s.value
            for s in statements
            if isinstance(s, ast.Assign) and any(isinstance(t, ast.Name) and t.id == value.id for t in s.targets)
        ]
        return _kind(assigned[-1], statements, through_name=False) if assigned else None
    return None
