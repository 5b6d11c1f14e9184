"""NVRTC in a process of its own: some releases change the locale of the process that they compile in.

A program, run by its path: it imports the standard library alone. It reads a request from its standard input and writes
the answer to its standard output, both as JSON. Without a ``source`` it answers with NVRTC's version and architectures.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from pathlib import Path
from typing import Any


class Nvrtc:
    """The library's functions, with errors as exceptions."""

    def __init__(self, path: str) -> None:
        folder = Path(path).parent
        # The compiler opens its builtins by their name alone: they have to be there already.
        for builtins in sorted(folder.glob("*nvrtc-builtins*")):
            try:
                ctypes.CDLL(str(builtins), getattr(ctypes, "RTLD_GLOBAL", 0))
            except OSError:
                continue  # those of another release, in a folder of several
        if hasattr(os, "add_dll_directory"):
            os.add_dll_directory(str(folder))
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = c_char_p

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name}: {self._library.nvrtcGetErrorString(code).decode()} ({code})")

    def version(self) -> list[int]:
        major, minor = c_int(), c_int()
        self.call("nvrtcVersion", byref(major), byref(minor))
        return [major.value, minor.value]

    def architectures(self) -> list[int]:
        """Compute capabilities times ten, 90 for 9.0."""
        count = c_int()
        self.call("nvrtcGetNumSupportedArchs", byref(count))
        numbers = (c_int * count.value)()
        self.call("nvrtcGetSupportedArchs", numbers)
        return list(numbers)

    def compile(self, source: str, options: list[str], kind: str) -> bytes:
        """A module, as CUBIN or PTX."""
        program = c_void_p()
        text = Path(source).read_bytes()
        self._library.nvrtcCreateProgram.argtypes = (
            POINTER(c_void_p),
            c_char_p,
            c_char_p,
            c_int,
            c_void_p,
            c_void_p,
        )
        self.call("nvrtcCreateProgram", byref(program), text, os.path.basename(source).encode(), 0, None, None)
        given = (c_char_p * len(options))(*[option.encode() for option in options])
        try:
            self.call("nvrtcCompileProgram", program, len(options), given)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self._text(program, 'ProgramLog')}") from None
        return self._bytes(program, kind)

    def _bytes(self, program: c_void_p, what: str) -> bytes:
        size = c_size_t()
        self.call(f"nvrtcGet{what}Size", program, byref(size))
        buffer = create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _text(self, program: c_void_p, what: str) -> str:
        return self._bytes(program, what).rstrip(b"\0").decode(errors="replace")


def answer(request: dict) -> dict:
    """What a request asks for; ``error`` if that is unavailable."""
    try:
        nvrtc = Nvrtc(request["library"])
        if "source" not in request:
            return {"version": nvrtc.version(), "architectures": nvrtc.architectures()}
        module = nvrtc.compile(request["source"], request["options"], request["kind"])
        Path(request["output"]).write_bytes(module)
        return {}
    except (OSError, RuntimeError, AttributeError) as error:
        return {"error": str(error)}


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
