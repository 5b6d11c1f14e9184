"""The C interface of the CPU kernels as its header declares it: the one description that ctypes calls by."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NUMBERS: dict[str, Any] = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "double": ctypes.c_double}

OF_TYPES = re.compile(r"^DIFF3R_FUNCTION\((\w+),\s*\(([^()]*)\)\)", re.MULTILINE)
PLAIN = re.compile(r"^((?:const )?\w+\*?) diff3r_(\w+)\(([^()]*)\);", re.MULTILINE)


@dataclass(frozen=True)
class Signature:
    """What ctypes needs to know of a function.

    Args:
        arguments: Types of its parameters.
        result: Type of what it returns; None for nothing.
    """

    arguments: tuple[Any, ...]
    result: Any = ctypes.c_int32

    def of(self, function: Any) -> Any:
        """The function, told its types."""
        function.argtypes, function.restype = self.arguments, self.result
        return function


def functions_of_types(header: str, structures: Mapping[str, type[ctypes.Structure]]) -> dict[str, Signature]:
    """Name -> signature of what exists for float and double (``diff3r_NAME_f32`` and ``diff3r_NAME_f64``).

    Args:
        header: Text of ``api.h``.
        structures: C name -> structure.

    Raises:
        ValueError: for a type that is none of C's numbers, known structures, or a pointer.

    Example:
        >>> from diff3r_plugin.kernels.loading.c_header import functions_of_types
        >>> functions_of_types("DIFF3R_FUNCTION(jvp, (void* handle, int32_t threads))", {})["jvp"].arguments
        (<class 'ctypes.c_void_p'>, <class 'ctypes.c_int'>)
    """
    return {name: Signature(_arguments(parameters, structures)) for name, parameters in OF_TYPES.findall(header)}


def plain_functions(header: str, structures: Mapping[str, type[ctypes.Structure]]) -> dict[str, Signature]:
    """The same of what is no matter of types (``diff3r_NAME``)."""
    return {
        name: Signature(_arguments(parameters, structures), _result(result, structures))
        for result, name, parameters in PLAIN.findall(header)
    }


def _arguments(parameters: str, structures: Mapping[str, type[ctypes.Structure]]) -> tuple[Any, ...]:
    return tuple(_type(parameter, structures) for parameter in parameters.split(",") if parameter.strip())


def _type(declared: str, structures: Mapping[str, type[ctypes.Structure]]) -> Any:
    """A C type, with or without a parameter's name; pointers to numbers are addresses, as ``data_ptr`` gives them."""
    found = re.match(r"\s*(?:const\s+)?(\w+)\s*(\**)", declared)
    name, stars = (found[1], found[2]) if found else (declared, "")
    if not stars and name in NUMBERS:
        return NUMBERS[name]
    if stars == "**":
        return ctypes.POINTER(ctypes.c_void_p)
    if stars and name in structures:
        return ctypes.POINTER(structures[name])
    if stars and name in ("void", "uint8_t", *NUMBERS):
        return ctypes.c_void_p
    raise ValueError(
        f"The kernels' header has a parameter {declared.strip()!r}; known are {', '.join(NUMBERS)}, pointers to them, "
        f"and to {', '.join(structures) or 'no structure'}."
    )


def _result(declared: str, structures: Mapping[str, type[ctypes.Structure]]) -> Any:
    if declared == "void":
        return None
    return ctypes.c_char_p if declared == "const char*" else _type(declared, structures)
