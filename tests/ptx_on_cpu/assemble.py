"""Instructions as operations of the machine: operands become places of registers, constants included."""

from __future__ import annotations

import re
from collections.abc import Callable
from ctypes import Structure, c_int32, c_int64
from dataclasses import dataclass

from ptx_on_cpu.control_flow import meeting_places, target
from ptx_on_cpu.parse import SIZES, Entry, Instruction, split

LANES = 32
SPECIAL = ("%tid.x", "%ctaid.x", "%ntid.x", "%nctaid.x", "%laneid")
"""Registers that the machine fills, the first ones (``schedule.cpp``)."""

FIRST_ADDRESS = 256
"""Of shared, local and parameter memory (``machine.h``)."""

GAP = 256
"""Bytes between variables, so that who runs over the end of one meets no other."""

BRANCH, EXIT, BARRIER, BARRIER_COUNT = -1, -2, -3, -4
_IGNORED = {"rn", "sync", "uni", "aligned", "volatile", "relaxed", "gpu", "nc"}
"""Parts of an opcode that make no difference here."""


class Unknown(ValueError):
    """An instruction that the machine does not have."""


class Op(Structure):
    """``ptx::Op`` (``machine.h``)."""

    _fields_ = (
        *((name, c_int32) for name in ("code", "guard", "negated", "dst", "a", "b", "c", "d")),
        ("offset", c_int64),
        *((name, c_int32) for name in ("target", "reconverge", "align", "counted")),
    )


@dataclass(frozen=True)
class Program:
    """What the machine runs.

    Args:
        entry: It came from.
        ops: The operations.
        origin: For each, the instruction that it comes from.
        constants: Words of the first registers, each for 32 lanes.
        words: Of all registers.
        shared, local: Begin and end of each variable.
    """

    entry: Entry
    ops: list[Op]
    origin: list[Instruction]
    constants: list[int]
    words: int
    shared: list[tuple[int, int]]
    local: list[tuple[int, int]]


def assemble(entry: Entry, code_of: Callable[[str], int]) -> Program:
    """A kernel for the machine.

    Args:
        entry: The kernel.
        code_of: The machine's code for an instruction, -1 if it has none.

    Raises:
        Unknown: for an instruction or operand that the machine does not have.
    """
    return _Assembler(entry, code_of).run()


def _variables(variables: dict[str, tuple[int, int]]) -> tuple[dict[str, int], list[tuple[int, int]]]:
    at, places, ranges = FIRST_ADDRESS, {}, []
    for name, (size, align) in variables.items():
        at = -(-at // align) * align
        places[name] = at
        ranges.append((at, at + size))
        at += size + GAP
    return places, ranges


class _Assembler:
    def __init__(self, entry: Entry, code_of: Callable[[str], int]) -> None:
        self._entry, self._code_of = entry, code_of
        self._places = meeting_places(entry)
        self._constants: list[int] = [0] * (len(SPECIAL) * LANES)
        self._constant_places: dict[tuple[int, int], int] = {}
        self._symbols = {name: FIRST_ADDRESS + at for name, at in entry.parameters.items()}
        shared, self._shared = _variables(entry.shared)
        local, self._local = _variables(entry.local)
        self._symbols |= shared | local
        self._registers: dict[str, int] = {}
        self._words = 0
        self._ops: list[Op] = []
        self._origin: list[Instruction] = []

    def run(self) -> Program:
        # Constants come first, so instructions are looked at twice: at first for their constants alone.
        for base in (0, 1):
            self._words = len(self._constants) if base else 1 << 24
            self._registers.clear()
            self._ops, self._origin = [], []
            firsts = []
            for at in range(len(self._entry.instructions)):
                firsts.append(len(self._ops))
                self._instruction(at)
        firsts.append(len(self._ops))
        for op in self._ops:
            op.target, op.reconverge = firsts[op.target], firsts[op.reconverge]
        return Program(self._entry, self._ops, self._origin, self._constants, self._words, self._shared, self._local)

    def _instruction(self, at: int) -> None:
        instruction = self._entry.instructions[at]
        parts = instruction.opcode.split(".")
        kind = parts[0]
        before = len(self._ops)
        if kind == "bra":
            self._emit(instruction, BRANCH, target=target(self._entry, at), reconverge=self._places[at])
        elif kind in ("ret", "exit"):
            self._emit(instruction, EXIT)
        elif kind in ("bar", "barrier"):
            self._barrier(instruction, parts)
        elif kind in ("ld", "st", "atom", "red"):
            self._memory(instruction, parts)
        elif kind != "pragma":
            self._plain(instruction, parts)
        for op in self._ops[before:-1]:
            op.counted = 0  # one of several that make an instruction

    def _emit(self, instruction: Instruction, code: int | str, **fields: int) -> None:
        if isinstance(code, str):
            name, code = code, self._code_of(code)
            if code < 0:
                raise Unknown(f"the checker has no {name!r}: line {instruction.line}: {instruction.text}")
        guard = self._register(instruction.guard.lstrip("!")) if instruction.guard else -1
        values = {"dst": -1, "a": -1, "b": -1, "c": -1, "d": 0, "counted": 1, **fields}
        self._ops.append(Op(code=code, guard=guard, negated=instruction.guard.startswith("!"), **values))
        self._origin.append(instruction)

    def _barrier(self, instruction: Instruction, parts: list[str]) -> None:
        if instruction.guard or self._value(instruction.operands[-1 if "sync" in parts else 1]) != 0:
            raise Unknown(f"a barrier of a part of a block: line {instruction.line}: {instruction.text}")
        if "red" not in parts:
            self._emit(instruction, BARRIER)
        elif "popc" in parts:
            given = self._predicate(instruction, instruction.operands[2])
            self._emit(instruction, BARRIER_COUNT, dst=self._register(instruction.operands[0]), a=given)
        else:
            raise Unknown(f"line {instruction.line}: {instruction.text}")

    def _memory(self, instruction: Instruction, parts: list[str]) -> None:
        kind, space = parts[0], next((p for p in parts if p in ("global", "shared", "local", "param")), None)
        if space is None:
            raise Unknown(f"an address of any space: line {instruction.line}: {instruction.text}")
        operands = list(instruction.operands)
        if kind in ("atom", "red"):
            return self._atomic(instruction, operands, f"atom.{space}.add.{parts[-1]}" if "add" in parts else "")
        address, value = (operands[1], operands[0]) if kind == "ld" else (operands[0], operands[1])
        values = split(value[1:-1]) if value.startswith("{") else (value,)
        size = SIZES[parts[-1]]
        base, wide, offset = self._address(address)
        for i, one in enumerate(values):
            register = self._operand(one, size)
            width = 8 * SIZES[self._entry.registers[one]] if one in self._entry.registers else 8 * max(size, 4)
            stored = f"{'s' if parts[-1][0] == 's' and kind == 'ld' and width > 8 * size else 'u'}{8 * size}"
            fields = {"dst": register} if kind == "ld" else {"b": register}
            self._emit(
                instruction,
                f"{kind}.{space}.{stored}.{max(width, 32)}",
                a=base,
                d=wide,
                offset=offset + i * size,
                align=len(values) * size if i == 0 else 0,
                **fields,
            )
        return None

    def _atomic(self, instruction: Instruction, operands: list[str], name: str) -> None:
        result = -1 if len(operands) == 2 or operands[0] == "_" else self._register(operands[0])
        base, wide, offset = self._address(operands[-2])
        size = SIZES[name.rsplit(".", 1)[-1]] if name else 0
        value = self._operand(operands[-1], size)
        self._emit(instruction, name, dst=result, a=base, b=value, d=wide, offset=offset, align=size)

    def _address(self, operand: str) -> tuple[int, int, int]:
        """Register, whether it is one of eight bytes, and what is added to it."""
        parts = re.fullmatch(r"\[\s*([%\w$@]+)\s*(?:\+?\s*(-?\d+))?\s*\]", operand)
        if parts is None:
            raise Unknown(f"an address {operand}")
        name, offset = parts[1], int(parts[2] or 0)
        if name in self._entry.registers:
            return self._register(name), int(SIZES[self._entry.registers[name]] == 8), offset
        return self._constant(self._value(name), 8), 1, offset

    def _plain(self, instruction: Instruction, parts: list[str]) -> None:
        name = ".".join(p for p in parts if p not in _IGNORED)
        operands = list(instruction.operands)
        if parts[0] == "cvta":
            name = f"mov.{parts[-1]}"
        if name == "mov.b64" and operands[0].startswith("{"):
            low, high = split(operands[0][1:-1])
            both = self._operand(operands[1], 8)
            return self._emit(instruction, "unpack", dst=self._register(low), b=self._register(high), a=both)
        if name == "mov.b64" and operands[1].startswith("{"):
            low, high = split(operands[1][1:-1])
            halves = self._operand(low, 4), self._operand(high, 4)
            return self._emit(instruction, "pack", dst=self._register(operands[0]), a=halves[0], b=halves[1])
        result, *given = operands
        result = result.split("|")[0]  # whether a shuffle's partner is in range, which nobody asks
        places = [
            self._predicate(instruction, one) if one.startswith("!") else self._given(instruction, one, size)
            for one, size in zip(given, _sizes(parts, len(given)), strict=True)
        ]
        fields = dict(zip("abcd", places, strict=False))
        self._check_width(instruction, result, _result_size(parts))
        return self._emit(instruction, name, dst=self._register(result), **fields)

    def _given(self, instruction: Instruction, operand: str, size: int) -> int:
        """An operand; of a wider register its lower half, which conversions may name."""
        wide = operand in self._entry.registers and SIZES[self._entry.registers[operand]] > max(size, 4)
        if wide and instruction.opcode.startswith("cvt"):
            temporary = self._register(f"{operand} of {instruction.line}", 4)
            self._emit(instruction, "cvt.u32.u64", dst=temporary, a=self._register(operand))
            return temporary
        self._check_width(instruction, operand, size)
        return self._operand(operand, size)

    def _check_width(self, instruction: Instruction, operand: str, size: int) -> None:
        kind = self._entry.registers.get(operand)
        if kind is not None and max(SIZES[kind], 4) != max(size, 4):
            raise Unknown(f"a register of {kind} in line {instruction.line}: {instruction.text}")

    def _predicate(self, instruction: Instruction, operand: str) -> int:
        """A predicate that may be negated."""
        if not operand.startswith("!"):
            return self._operand(operand, 4)
        temporary = self._register(f"{operand} of {instruction.line}", 4)
        self._emit(instruction, "not.pred", dst=temporary, a=self._register(operand[1:]))
        return temporary

    def _operand(self, operand: str, size: int) -> int:
        if operand in SPECIAL:
            return SPECIAL.index(operand) * LANES
        if operand in self._entry.registers:
            return self._register(operand)
        return self._constant(self._value(operand), size)

    def _value(self, operand: str) -> int:
        """Bits of a constant, or a variable's address."""
        if operand in self._symbols:
            return self._symbols[operand]
        if re.fullmatch(r"0[fFdD][0-9A-Fa-f]+", operand):
            return int(operand[2:], 16)
        try:
            return int(operand.rstrip("U"), 0)
        except ValueError:
            raise Unknown(f"an operand {operand!r}") from None

    def _register(self, name: str, size: int | None = None) -> int:
        if name not in self._registers:
            if size is None:
                size = SIZES[self._entry.registers[name]]
            self._registers[name] = self._words
            self._words += LANES * (2 if size == 8 else 1)
        return self._registers[name]

    def _constant(self, value: int, size: int) -> int:
        bits = value & ((1 << 8 * size) - 1)
        size = max(size, 4)
        if (bits, size) not in self._constant_places:
            self._constant_places[bits, size] = len(self._constants)
            words = [bits & 0xFFFFFFFF] if size == 4 else [bits & 0xFFFFFFFF, bits >> 32]
            self._constants += words * LANES
        return self._constant_places[bits, size]


def _result_size(parts: list[str]) -> int:
    """Bytes of the type that an instruction gives."""
    if parts[0] in ("setp", "vote"):
        return 4
    if parts[0] == "cvt":
        return SIZES[parts[-2]]
    return SIZES[parts[-1]] * (2 if "wide" in parts else 1)


def _sizes(parts: list[str], count: int) -> list[int]:
    """Bytes that constants among the operands after the first have."""
    size = SIZES[parts[-1]]
    if parts[0] in ("shl", "shr"):
        return [size, 4]
    if parts[0] == "selp":
        return [size, size, 4]
    if parts[0] == "vote":
        return [4, 4]
    if parts[0] == "mad" and "wide" in parts:
        return [size, size, 2 * size]
    return [size] * count
