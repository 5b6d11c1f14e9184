"""One result out of what the parts wrote: the verdict, the tables, the exit status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.record import FAILED, SKIPPED, TRUNCATED

GOOD, BAD, INCOMPLETE = 0, 1, 3
"""Exit status; 2 is argparse's."""

RESOURCES = ("registers", "stack_bytes", "spilled_bytes", "shared_bytes")

DRY_RUN_NOTICE = (
    "DRY RUN on a CPU with tiny sizes: it shows that the check runs, nothing else. No time, ratio or memory in it is a "
    "figure of a GPU, and none may be quoted as one."
)


def verdict(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What failed, what missed its target, what is missing; ``exit_status`` 0, 1 (failed, missed) or 3 (incomplete)."""
    checks = parts.get("checks", {}).get("checks", [])
    figures = [entry for part in parts.values() for entry in part.get("figures", ())]
    failed = [f"{c['name']} ({c['case']}): {c['note']}" for c in checks if c["passed"] is False]
    failed += [f"{name}: {part['reason']}" for name, part in parts.items() if part["state"] == FAILED]
    missed = [
        f"{f['figure']} ({f['size']}): {_number(f['value'])}, must be at most {_number(f['must'])}"
        for f in figures
        if f["verdict"] == "miss"
    ]
    incomplete = [f"{name}: {part['reason']}" for name, part in parts.items() if part["state"] == TRUNCATED]
    skipped = [f"{name}: {part['reason']}" for name, part in parts.items() if part["state"] == SKIPPED]
    return {
        "checks_passed": sum(c["passed"] is True for c in checks),
        "checks_failed": failed,
        "missed": missed,
        "incomplete": incomplete,
        "skipped": skipped,
        "exit_status": BAD if failed or missed else INCOMPLETE if incomplete else GOOD,
    }


def result(header: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What ``results.json`` holds."""
    first = parts.get("first_use", {})
    return {
        **header,
        "notice": DRY_RUN_NOTICE if header["dry_run"] else None,
        "device": first.get("device"),
        "versions": first.get("versions"),
        "verdict": verdict(parts),
        "parts": dict(parts),
    }


def text(results: Mapping[str, Any]) -> str:
    """The tables, for a terminal."""
    parts = results["parts"]
    lines = [DRY_RUN_NOTICE, ""] if results["dry_run"] else []
    for name in ("device", "versions"):
        facts = results[name] or {}
        lines.append(f"{name}: " + ", ".join(f"{k} {v}" for k, v in facts.items() if v is not None))
    lines.append(f"commit: {results['commit']}, {results['date']}, backend {results['backend']}")
    lines += _table("Parts", ("part", "state", "seconds", "remark"), _part_rows(parts))
    lines += _table("Checks: one of each kind, failures first", ("check", "case", ""), _check_rows(parts))
    lines += _table("Times", *_time_rows(parts.get("figures", {}).get("times", ())))
    figures = [entry for part in parts.values() for entry in part.get("figures", ())]
    lines += _table("Figures", ("figure", "size", "value", "must", "aim", ""), map(_figure_row, figures))
    lines += _table("Hot kernels: share of what is achievable", *_share_rows(parts.get("figures", {})))
    profiled, heading = parts.get("profile", {}), ("size", "row", "ms", "host", "kernels", "longest kernels, ms")
    lines += _table("Profile of one call, ms", heading, _profile_rows(profiled))
    lines += _table("Kernels by ptxas", ("source", "kernel", *RESOURCES), _resource_rows(profiled))
    lines += [f"{t['tool']}: status {t['status']}, {(t['output'] or [''])[-1]}" for t in profiled.get("tools", ())]
    memory = parts.get("memory", {})
    rows = [*memory.get("implicit", ()), *memory.get("unrolled", ())]
    lines += _table(
        "Memory of a training step", ("size", "mode", "inner steps", "peak", "seconds"), map(_memory_row, rows)
    )
    lines += _table("Training of the miniature host", ("", "value"), _training_rows(parts.get("training", {})))
    not_run = [entry for part in parts.values() for entry in part.get("not_run", ())]
    lines += _table("Not run", ("size", "row", "reason"), ((n["size"], n["row"], n["reason"]) for n in not_run))
    return "\n".join([*lines, *_verdict_lines(results)])


def _verdict_lines(results: Mapping[str, Any]) -> Iterable[str]:
    found = results["verdict"]
    yield ""
    for title in ("checks_failed", "missed", "incomplete", "skipped"):
        for line in (str(line).splitlines()[0] for line in found[title]):
            yield f"{title.replace('checks_failed', 'FAILED').replace('missed', 'MISSED')}: {line}"
    failed, missed = len(found["checks_failed"]), len(found["missed"])
    yield f"{found['checks_passed']} checks passed, {failed} failures, {missed} figures missed"
    if results["dry_run"]:
        yield DRY_RUN_NOTICE


def _table(title: str, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Aligned columns; nothing for no rows."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return []
    widths = [max(map(len, column)) for column in zip(heading, *cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (heading, *cells)
    ]
    return ["", title, *(line.rstrip() for line in lines)]


def _part_rows(parts: Mapping[str, Mapping[str, Any]]) -> Iterable[Sequence[object]]:
    for name, part in parts.items():
        yield (
            name,
            part["state"],
            f"{part['seconds']:.1f}",
            str(part["reason"] or "").splitlines()[0] if part["reason"] else "",
        )


def _check_rows(parts: Mapping[str, Mapping[str, Any]]) -> Iterable[Sequence[object]]:
    shown: dict[str, Mapping[str, Any]] = {}
    for check in parts.get("checks", {}).get("checks", ()):
        if check["name"] not in shown or check["passed"] is False:
            shown[check["name"]] = check
    words = {True: "pass", False: "FAIL", None: "skipped"}
    for name, check in sorted(shown.items(), key=lambda item: item[1]["passed"] is not False):
        note = (str(check["note"]).splitlines() or [""])[0]
        yield name, check["case"], f"{words[check['passed']]} {note[:100]}".strip()


def _profile_rows(part: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    for row in part.get("rows", ()):
        kernels = [f"{k['kernel'][:40]} {_milliseconds(k['seconds'])}" for k in row["kernels"][:3]]
        times = (row["seconds"], row["host_seconds"], row["kernel_seconds"])
        yield row["size"], row["row"], *map(_milliseconds, times), "; ".join(kernels)


def _resource_rows(part: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    for k in part.get("resources", ()):
        yield k["source"], k["kernel"][:60], *(k[name] for name in RESOURCES)


def _time_rows(times: Iterable[Mapping[str, Any]]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    by_size: dict[str, dict[str, float]] = {}
    for entry in times:
        by_size.setdefault(entry["size"], {})[entry["row"]] = entry["seconds"]
    names = list(dict.fromkeys(row for rows in by_size.values() for row in rows))
    table = [(size, *(_milliseconds(rows.get(name)) for name in names)) for size, rows in by_size.items()]
    return ("ms", *names), table


def _figure_row(entry: Mapping[str, Any]) -> Sequence[object]:
    return entry["figure"], entry["size"], *(_number(entry[key]) for key in ("value", "must", "aim")), entry["verdict"]


def _share_rows(part: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    rates = part.get("achievable", {})
    measured = ", ".join(f"{name.replace('_per_second', '')} {value:.3g}/s" for name, value in rates.items())
    rows = [
        (
            s["size"],
            s["kernel"],
            s["visited"],
            s["blended"],
            f"{s['share_of_arithmetic']:.3f}",
            f"{s['share_of_bandwidth']:.3f}",
        )
        for s in part.get("shares", ())
    ]
    return (f"measured: {measured}", "kernel", "visited", "blended", "of arithmetic", "of bandwidth"), rows


def _memory_row(entry: Mapping[str, Any]) -> Sequence[object]:
    peak = entry["reason"] if entry["bytes"] is None else f"{entry['bytes'] / 1e6:.1f} MB"
    return entry["size"], entry.get("mode", "implicit"), entry["inner_steps"], peak, _number(entry["seconds"])


def _training_rows(part: Mapping[str, Any]) -> Iterable[Sequence[object]]:
    for run in part.get("trainings", ()):
        flag = "with" if run["flag"] else "without"
        yield f"seconds per step {flag} the flag ({run['steps']} steps)", _number(run["seconds_per_step"])
    for name, value in part.get("held_out", {}).items():
        if isinstance(value, (int, float)):
            yield f"held-out rooms, {name}", _number(value)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
