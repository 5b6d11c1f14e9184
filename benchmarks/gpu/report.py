"""One result out of what the parts wrote: the verdict, the tables, the exit status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.record import CUT_SHORT, FAILED, SKIPPED

GOOD, BAD, INCOMPLETE = 0, 1, 3
"""Exit status; 2 is argparse's."""

DRY_RUN_NOTICE = (
    "DRY RUN on a CPU with tiny sizes: it shows that the check runs, nothing else. No time, ratio or memory in it is a "
    "figure of a GPU, and none may be quoted as one."
)


def verdict(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What failed, what missed its target, what is missing; ``exit_status`` 0, 1 (failed, missed) or 3 (incomplete)."""
    checks = parts.get("checks", {}).get("checks", [])
    figures = [entry for part in parts.values() for entry in part.get("figures", ())]
    failed = [f"{c['name']} ({c['case']}): {_failure(c)}" for c in checks if c["passed"] is False]
    failed += [f"{name}: {part['reason']}" for name, part in parts.items() if part["state"] == FAILED]
    missed = [
        f"{f['figure']} ({f['size']}): {_number(f['value'])}, must be at most {_number(f['must'])}"
        for f in figures
        if f["verdict"] == "miss"
    ]
    incomplete = [f"{name}: {part['reason']}" for name, part in parts.items() if part["state"] == CUT_SHORT]
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
    lines += _table("Checks: the worst of each kind", ("check", "case", "error", "limit", ""), _check_rows(parts))
    lines += _table("Times", *_time_rows(parts.get("figures", {}).get("times", ())))
    figures = [entry for part in parts.values() for entry in part.get("figures", ())]
    lines += _table("Figures", ("figure", "size", "value", "must", "aim", ""), map(_figure_row, figures))
    lines += _table("Hot kernels: share of what is achievable", *_share_rows(parts.get("figures", {})))
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


def _failure(check: Mapping[str, Any]) -> str:
    if check["limit"] is None:
        return check["note"] or "no"
    return f"error {_number(check['error'])}, limit {check['limit']:g}"


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
    worst: dict[str, Mapping[str, Any]] = {}
    for check in parts.get("checks", {}).get("checks", ()):
        known = worst.get(check["name"])
        if known is None or _badness(check) > _badness(known):
            worst[check["name"]] = check
    words = {True: "pass", False: "FAIL", None: "recorded"}
    for name, check in worst.items():
        error = "" if check["error"] is None and check["limit"] is None else _number(check["error"])
        note = check["note"] if check["passed"] is not True else ""
        limit = "" if check["limit"] is None else f"{check['limit']:g}"
        yield name, check["case"], error, limit, f"{words[check['passed']]} {note}".strip()


def _badness(check: Mapping[str, Any]) -> tuple[bool, float]:
    share = 0.0 if check["limit"] is None or check["error"] is None else check["error"] / check["limit"]
    return check["passed"] is False, share


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
