"""PTX text as kernels of instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SIZES = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "b32": 4, "u32": 4, "s32": 4, "f32": 4}
SIZES |= {"b64": 8, "u64": 8, "s64": 8, "f64": 8, "pred": 4}
"""Bytes of a type; a predicate stands in a word."""

_ENTRY = re.compile(r"\.visible\s+\.entry\s+([\w$]+)\s*\(")
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)(?:\s+\.ptr(?:\s+\.\w+)?(?:\s+\.align\s+\d+)?)?\s+([\w$]+)(?:\[(\d+)\])?"
)
_VARIABLE = re.compile(r"\.(shared|local)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?")
_LOCATION = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+\d+(?:.*inlined_at\s+(\d+)\s+(\d+))?")
_FILE = re.compile(r'\.file\s+(\d+)\s+"([^"]*)"')
_LABEL = re.compile(r"([\w$]+):(?!:)")
_GUARD = re.compile(r"@(!?)(%[\w$]+)\s+")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Args:
        opcode: With all its parts, ``ld.global.f32``.
        operands: As they are written, registers of inner scopes renamed.
        guard: The predicate register it depends on, ``!`` before it where it is negated; or empty.
        line: Its line in the PTX, from 1.
        source: The line of the kernel's source that it comes from, ``tile_walk.cuh:56``; empty if that is not known.
        text: As it is written.
    """

    opcode: str
    operands: tuple[str, ...]
    guard: str
    line: int
    source: str
    text: str


@dataclass
class Entry:
    """One kernel: parameters by offset in the arguments, variables by bytes and alignment, registers by type."""

    name: str
    parameters: dict[str, int] = field(default_factory=dict)
    parameter_bytes: int = 0
    shared: dict[str, tuple[int, int]] = field(default_factory=dict)
    local: dict[str, tuple[int, int]] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def entries(ptx: str) -> dict[str, Entry]:
    """All kernels of a module by their names."""
    text = re.sub(r"//[^\n]*", "", ptx)
    files = {int(number): path.rsplit("/", 1)[-1] for number, path in _FILE.findall(text)}
    shared = {m[4]: _size(m) for m in _VARIABLE.finditer(text) if m[1] == "shared"}
    found = {}
    for match in _ENTRY.finditer(text):
        entry = Entry(match[1])
        end = text.index(")", match.end())
        _read_parameters(entry, text[match.end() : end])
        begin = text.index("{", end)
        _Body(entry, files, text.count("\n", 0, begin) + 1).read(text[begin : _closing(text, begin)])
        used = " ".join(i.text for i in entry.instructions)
        entry.shared |= {name: size for name, size in shared.items() if name in used}
        found[entry.name] = entry
    return found


def split(operands: str) -> tuple[str, ...]:
    """Operands at the commas outside of braces and brackets.

    Example:
        >>> from ptx_on_cpu.parse import split
        >>> split("{%f1, %f2}, [%rd1+8]")
        ('{%f1, %f2}', '[%rd1+8]')
    """
    return tuple(part.strip() for part in re.split(r",(?![^{\[]*[}\]])", operands) if part.strip())


def _size(variable: re.Match[str]) -> tuple[int, int]:
    element = SIZES[variable[3]]
    return element * int(variable[5] or 1), int(variable[2] or element)


def _closing(text: str, begin: int) -> int:
    """Where the brace that opens at ``begin`` closes."""
    depth = 0
    for brace in re.finditer(r"[{}]", text[begin:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return begin + brace.start()
    raise ValueError("a kernel without an end")


def _read_parameters(entry: Entry, text: str) -> None:
    at = 0
    for align, kind, name, count in _PARAMETER.findall(text):
        size = int(count or 1) * SIZES[kind]
        step = int(align or SIZES[kind])
        at = -(-at // step) * step
        entry.parameters[name] = at
        at += size
    entry.parameter_bytes = at


class _Body:
    """Reads what stands between a kernel's braces.

    Args:
        entry: To fill.
        files: Names of source files by number.
        line: Of the opening brace.
    """

    def __init__(self, entry: Entry, files: dict[int, str], line: int) -> None:
        self._entry, self._files, self._line = entry, files, line
        self._scopes: list[dict[str, str]] = []
        self._source = ""

    def read(self, text: str) -> None:
        for raw in text.split("\n"):
            self._read_line(raw.strip())
            self._line += 1

    def _read_line(self, rest: str) -> None:
        while rest:
            location = _LOCATION.match(rest)
            if location:
                self._locate(*location.groups())
                return
            label = _LABEL.match(rest)
            if label:
                self._entry.labels[label[1]] = len(self._entry.instructions)
                rest = rest[label.end() :].strip()
            elif rest[0] == "{":
                self._scopes.append({})
                rest = rest[1:].strip()
            elif rest[0] == "}":
                self._scopes.pop()
                rest = rest[1:].strip()
            else:
                statement, end, rest = rest.partition(";")
                if not end and not statement.startswith("."):
                    raise ValueError(f"line {self._line}: no statement of one line: {statement!r}")
                self._read_statement(statement.strip())
                rest = rest.strip()

    def _locate(self, file: str, line: str, outer_file: str | None, outer_line: str | None) -> None:
        name = self._files.get(int(file), "?")
        if name.endswith(".hpp") and outer_file and outer_line:  # a function of the toolkit: by whom it is called
            name, line = self._files.get(int(outer_file), "?"), outer_line
        if line != "0":  # what belongs to no line
            self._source = f"{name}:{line}"

    def _read_statement(self, statement: str) -> None:
        variable = _VARIABLE.match(statement)
        if variable:
            getattr(self._entry, variable[1])[variable[4]] = _size(variable)
        elif statement.startswith(".reg"):
            self._read_registers(statement)
        elif statement and not statement.startswith("."):
            self._read_instruction(statement)

    def _read_registers(self, statement: str) -> None:
        _, kind, names = statement.split(None, 2)
        for declared in split(names):
            several = re.fullmatch(r"(%?[\w$]+)<(\d+)>", declared)
            plain = [f"{several[1]}{i}" for i in range(int(several[2]))] if several else [declared]
            for name in plain:
                unique = name if len(self._scopes) <= 1 else f"{name}@{self._line}"
                self._scopes[-1][name] = unique
                self._entry.registers[unique] = kind.removeprefix(".")

    def _read_instruction(self, statement: str) -> None:
        guard = _GUARD.match(statement)
        body = statement[guard.end() :] if guard else statement
        opcode, _, operands = body.partition(" ") if " " in body else body.partition("\t")
        named = self._renamed(" ".join(operands.split()))
        self._entry.instructions.append(
            Instruction(
                opcode=opcode.strip(),
                operands=split(named),
                guard=guard[1] + self._renamed(guard[2]) if guard else "",
                line=self._line,
                source=self._source,
                text=" ".join(statement.split()),
            )
        )

    def _renamed(self, operands: str) -> str:
        def unique(name: re.Match[str]) -> str:
            for scope in reversed(self._scopes):
                if name[0] in scope:
                    return scope[name[0]]
            return name[0]

        return re.sub(r"%?[\w$]+(?:\.\w+)?", unique, operands)
