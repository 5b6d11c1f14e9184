"""What a function returns, read from its source."""

import ast

import pytest

from diff3r_plugin.plugin.host.return_kinds import returned_kinds


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("def f() -> Gaussians: ...", {"Gaussians"}),
        ("def f() -> types.Gaussians | None: ...", {"Gaussians"}),
        ("def f() -> Optional['Gaussians']: ...", {"Gaussians"}),
        ("def f() -> Union[Gaussians, Dict[str, Tensor]]: ...", {"Gaussians", "dict"}),
        ("def f() -> tuple[Gaussians, dict]: ...", {"tuple of 2"}),
        ("def f() -> Float[Tensor, 'b n']: ...", {"Float"}),
        ("def f() -> Any: return 1, 2", set()),
        ("def f(): return Gaussians(1), 2, 3", {"tuple of 3"}),
        ("def f(): return {'gaussians': 1}", {"dict"}),
        ("def f(): return dict(gaussians=1)", {"dict"}),
        ("def f(): return [1]", {"list"}),
        ("def f():\n  x = 1\n  x = types.Gaussians(1)\n  return x", {"Gaussians"}),
        ("def f():\n  if a:\n    return {}\n  return Gaussians(1)", {"dict", "Gaussians"}),
        ("def f():\n  g = lambda: (1, 2)\n  def h(): return {}\n  return g(x)", set()),
        ("def f(): return unknown", set()),
        ("def f(): return", set()),
    ],
)
def test_kinds(source, kinds):
    (function,) = ast.parse(source).body
    assert returned_kinds(function) == kinds
