"""The entry of a scene from those of its encoder calls; what to know of scores where poses are not given."""

from __future__ import annotations

import math
from typing import Any

import torch


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


def about_poses(source: str | None, entries: list[dict[str, Any]]) -> str:
    """What to know of scores of a host whose encoder does not see the context poses."""
    if source == "batch":
        return (
            "context poses: those of the data (diff3r.context_poses=batch), which this host's encoder does not "
            "see: the scores after refinement are not those of a pose-free method"
        )
    means = {
        name: torch.tensor([entry[name] for entry in entries], dtype=torch.float64).nanmean().item()
        for name in entries[0]
        if name.startswith("pose_")
    }
    if source == "predicted":
        return (
            "context poses: predicted by the host, then refined with the scene; difference to the data's: rotation "
            f"{means['pose_rotation_error_before']:.2f} to {means['pose_rotation_error_after']:.2f}, direction "
            f"{means['pose_translation_error_before']:.2f} to {means['pose_translation_error_after']:.2f} degrees"
        )
    lost = sum(math.isnan(entry["before"]["psnr_context"]) for entry in entries)
    return (
        "context poses: estimated from the prediction, then refined with it; error against the data: rotation "
        f"{means['pose_rotation_error_before']:.2f} to {means['pose_rotation_error_after']:.2f}, direction "
        f"{means['pose_translation_error_before']:.2f} to {means['pose_translation_error_after']:.2f} degrees; "
        f"{lost} of {len(entries)} scenes without poses kept their initial Gaussians"
    )
