"""The entry of a scene from those of its encoder calls."""

from __future__ import annotations

from typing import Any


def of_several(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of a scene from those of its encoder calls: means of the metrics, the worst of what the solver says."""
    sides = {
        side: {name: sum(call[side][name] for call in calls) / len(calls) for name in calls[0][side]}
        for side in ("before", "after")
    }
    poses = {name: sum(call[name] for call in calls) / len(calls) for name in calls[0] if name.startswith("pose_")}
    return {
        **sides,
        "steps": calls[0]["steps"],
        "seconds": sum(call["seconds"] for call in calls),
        "outcome": ", ".join(dict.fromkeys(call["outcome"] for call in calls)),
        "energy": [sum(values) / len(values) for values in zip(*(call["energy"] for call in calls), strict=True)],
        "stationarity": max(call["stationarity"] for call in calls),
        "accepted_steps": min(call["accepted_steps"] for call in calls),
        "pcg_iterations": sum(call["pcg_iterations"] for call in calls),
        "renderer_agreement_psnr": min(call["renderer_agreement_psnr"] for call in calls),
        **poses,
        **_curve_of_several(calls, "sweep"),
        **_curve_of_several(calls, "compare"),
        "calls": calls,
    }


def _curve_of_several(calls: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Means of the scores for each number of steps; seconds are added."""
    if not all(kind in call for call in calls):
        return {}
    rows = []
    for each in zip(*(call[kind] for call in calls), strict=True):
        words = {name: ", ".join(dict.fromkeys(row[name] for row in each)) for name in WORDS if name in each[0]}
        means = {name: sum(row[name] for row in each) / len(each) for name in each[0] if name not in WORDS}
        seconds = sum(row["seconds"] for row in each)
        rows.append({**words, **means, "steps": each[0]["steps"], "seconds": seconds})
    return {kind: rows}


WORDS = ("method", "outcome")
