"""Where lanes that part at a branch meet again: the branch's immediate postdominator."""

from __future__ import annotations

from ptx_on_cpu.parse import Entry

ENDS = ("ret", "exit")


def target(entry: Entry, at: int) -> int:
    """The instruction that a branch goes to."""
    return entry.labels[entry.instructions[at].operands[0]]


def meeting_places(entry: Entry) -> dict[int, int]:
    """For each branch the instruction before which its lanes meet again, or the number of instructions."""
    starts, successors = _blocks(entry)
    nearest = _postdominators(successors)
    end = len(entry.instructions)
    first = [*starts, end]
    places = {}
    for block, start in enumerate(starts):
        last = (starts[block + 1] if block + 1 < len(starts) else end) - 1
        if start <= last and entry.instructions[last].opcode.split(".")[0] == "bra":
            places[last] = first[nearest[block]]
    return places


def _blocks(entry: Entry) -> tuple[list[int], list[list[int]]]:
    """First instructions of basic blocks, and each block's successors; the one after the last block is the end."""
    end = len(entry.instructions)
    starts = {0, *(at for at in entry.labels.values() if at < end)}
    leaves = {}
    for at, instruction in enumerate(entry.instructions):
        kind = instruction.opcode.split(".")[0]
        if kind == "bra" or kind in ENDS:
            leaves[at] = kind
            if at + 1 < end:
                starts.add(at + 1)
    ordered = sorted(starts)
    number = {start: block for block, start in enumerate(ordered)} | {end: len(ordered)}
    successors = []
    for block in range(len(ordered)):
        following = ordered[block + 1] if block + 1 < len(ordered) else end
        last = following - 1
        falls = {number[following]}
        if last not in leaves:
            goes = falls
        else:
            jumps = number[target(entry, last)] if leaves[last] == "bra" else len(ordered)
            goes = {jumps} | (falls if entry.instructions[last].guard else set())
        successors.append(sorted(goes))
    return ordered, successors


def _postdominators(successors: list[list[int]]) -> list[int]:
    """Immediate postdominators of blocks; blocks are sets of bits of those that every way to the end passes."""
    end = len(successors)
    everything = (1 << (end + 1)) - 1
    passed = [everything] * end + [1 << end]
    changed = True
    while changed:
        changed = False
        for block in range(end - 1, -1, -1):
            common = everything
            for following in successors[block]:
                common &= passed[following]
            common |= 1 << block
            changed |= common != passed[block]
            passed[block] = common
    nearest = []
    for block in range(end):
        others = passed[block] & ~(1 << block)
        # The nearest one is passed by every way from it to the end that the others are passed by.
        nearest.append(next(b for b in range(end + 1) if others >> b & 1 and passed[b] == others))
    return nearest
