"""Tables and figures of ``docs/research/results.md`` from the files of results, each between two markers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.study.captured_report import captured_pretraining_table, captured_table, per_scene
from benchmarks.study.costs import cost_table
from benchmarks.study.experiments import AS_LONG_AS
from benchmarks.study.summary import Summary
from benchmarks.study.titles import title
from diff3r_plugin.mean_and_error import MeanAndError


def write_report(results: Path, docs: Path, pretrained: Path) -> None:
    """Bring ``docs/research/results.md`` up to date with the files in ``results`` and the pretrained host's record."""
    page = docs / "research" / "results.md"
    text = page.read_text(encoding="utf-8")
    if pretrained.is_file():
        text = replaced(text, "pretrained", pretraining_table(json.loads(pretrained.read_text(encoding="utf-8"))))
    for path in sorted(results.glob("study_*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        name = path.stem.removeprefix("study_")
        body = SECTIONS[record["experiment"]](record)
        if record["experiment"] == "overfit":
            plot_overfit(record, docs / "images" / f"study_{name}.png")
        text = replaced(text, name, f"{body}\n\n{provenance(record)}")
    page.write_text(text, encoding="utf-8")


def replaced(text: str, name: str, body: str) -> str:
    """A page with the part between the markers of one experiment replaced.

    Raises:
        ValueError: if the page has no such markers.
    """
    begin, end = f"<!-- study: {name} -->", f"<!-- end of study: {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"The page lacks the lines {begin} and {end} between which the tables belong.")
    return pattern.sub(lambda _: f"{begin}\n{body}\n{end}", text)


def pretraining_table(record: dict[str, Any]) -> str:
    """The validation curve of the pretrained host, and what made it."""
    curve = record["validation_curve"]
    picked = [curve[round(i * (len(curve) - 1) / 7)] for i in range(8)] if len(curve) > 8 else curve
    lines = [
        "| steps | " + " | ".join(str(point["step"]) for point in picked) + " |",
        "| --- |" + " --- |" * len(picked),
        "| PSNR, dB | " + " | ".join(f"{point['psnr']:.2f}" for point in picked) + " |",
        "| SSIM | " + " | ".join(f"{point['ssim']:.3f}" for point in picked) + " |",
        "| depth error | " + " | ".join(f"{100 * point['depth_error']:.1f} %" for point in picked) + " |",
    ]
    machine = record["machine"]
    return "\n".join(lines) + (
        f"\n\n`{record['command']}` on {record['date']}, {machine['cores']} shared cores of {machine['processor']}: "
        f"{record['parameters']:,} weights in {record['bytes']:,} bytes, beside the host in `pretrained/`. On "
        "validation rooms, two context views, before TTO; the depth error is the median over pixels of the error "
        "relative to the true depth."
    )


def provenance(record: dict[str, Any]) -> str:
    """What produced a record, in one line."""
    machine = record["machine"]
    if "settings" not in record:
        return f"`{record['command']}` on {record['date']}, commit {machine['commit']}."
    settings, trained = record["settings"], ""
    if record["experiment"] not in ("overfit", "ceilings", "cost"):
        trained = f"{settings['steps']} steps, seeds {', '.join(map(str, settings['seeds']))}, "
    made = f"`{record['command']}` on {record['date']}, commit {machine['commit']}"
    if "captured" in record:
        return f"{made}; started from {record['started_from']}."
    return f"{made}; {trained}rooms of seed {settings['rooms_seed']}, {settings['context_views']} context views."


def overfit_table(record: dict[str, Any]) -> str:
    """Context and target PSNR by number of steps, for each scale of the weights."""
    settings, rows = record["settings"], record["rows"]
    lines = ["| inner steps | " + " | ".join(f"Λ × {s:g}: context | target" for s in settings["grid_scales"]) + " |"]
    lines.append("| --- |" + " --- |" * (2 * len(settings["grid_scales"])))
    for steps in settings["overfit_steps"]:
        cells = []
        for scale in settings["grid_scales"]:
            row = rows[f"weights x {scale:g}, {steps} steps"]
            cells += [MeanAndError.of(row[name]).text(2) for name in ("psnr_context_after", "psnr_after")]
        lines.append(f"| {steps} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\nPSNR in dB, mean ± standard error over {len(record['rooms'])} validation rooms."


def ceilings_table(record: dict[str, Any]) -> str:
    """PSNR of every row, and paired differences to the same weights everywhere."""
    rows, scenes = record["rows"], "captured scenes" if "captured" in record else "rooms"
    common = rows["the same weights everywhere"]
    lines = ["| known | PSNR | minus the same weights everywhere |", "| --- | --- | --- |"]
    for name, values in rows.items():
        difference = "" if values == common else Summary.difference({"1": values}, {"1": common}).text(sign=True)
        lines.append(f"| {name} | {MeanAndError.of(values).text(2)} | {difference} |")
    return "\n".join(lines) + f"\n\nTarget PSNR in dB, mean ± standard error over {len(record['rooms'])} {scenes}."


def training_table(record: dict[str, Any]) -> str:
    """Before and after TTO for every variant, and paired differences to plain fine-tuning."""
    units = record["units"]
    variants = list(dict.fromkeys(name.rpartition(", seed ")[0] for name in units if ", seed " in name))
    lines = [
        "| training | seconds | before TTO | after TTO | after, minus plain of equal steps | before, minus plain |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    start = units["start"]["scores"]
    before, after = (MeanAndError.of(start[f"psnr_{side}"]).text(2) for side in ("before", "after"))
    lines.append(f"| none: the pretrained host | 0 | {before} | {after} | | |")
    plain = next((v for v in variants if v in ("plain", "corrupted_plain")), None)
    for variant in variants:
        cells = []
        for side in ("before", "after"):
            cells.append(Summary.of(_by_seed(units, variant, f"psnr_{side}")).text())
        for side in ("after", "before"):
            if plain in (None, variant):
                cells.append("")
                continue
            own, other = (_by_seed(units, v, f"psnr_{side}") for v in (variant, plain))
            cells.append(Summary.difference(own, other).text(sign=True) if set(own) & set(other) else "")
        seconds = MeanAndError.of([u["seconds"] for n, u in units.items() if n.startswith(f"{variant}, seed ")]).mean
        lines.append(f"| {title(variant)} | {seconds:.0f} | {' | '.join(cells)} |")
    rooms, seeds = len(units["start"]["rooms"]), len(record["settings"]["seeds"])
    lines += [
        "",
        *further_differences(units, [v for v in variants if not v.removeprefix("corrupted_").startswith("plain")]),
    ]
    return "\n".join(lines) + (
        f"\n\nPSNR on the target views in dB over {rooms} test rooms, used once: mean ± standard error over rooms"
        + (f" ± standard error over {seeds} seeds." if seeds > 1 else "; one seed, so nothing is known of its scatter.")
    )


def further_differences(units: dict[str, Any], variants: list[str]) -> list[str]:
    """After TTO: each variant minus plain fine-tuning of as many seconds, and minus the host it started from."""
    lines = []
    for variant in variants:
        own = _by_seed(units, variant, "psnr_after")
        start = {seed: units["start"]["scores"]["psnr_after"] for seed in own}
        against = {"the pretrained host without any fine-tuning": start}
        for other in dict.fromkeys((variant, "implicit")):
            if seconds := _by_seed(units, AS_LONG_AS + other, "psnr_after"):
                against = {
                    f"plain fine-tuning of as many seconds{'' if other == variant else ' as implicit took'}": seconds,
                    **against,
                }
                break
        found = "; ".join(
            f"{Summary.difference(own, other).text(sign=True)} over {name}" for name, other in against.items()
        )
        lines.append(f"* {title(variant)}, after TTO: {found}.")
    return lines


def outlier_table(record: dict[str, Any]) -> str:
    """After TTO by kind of outlier, with the weights of an oracle beside it; then minus plain fine-tuning."""
    units, kinds = record["units"], record["kinds"]
    names = (*sorted(set(kinds.values())), None)
    variants = list(dict.fromkeys(name.rpartition(", seed ")[0] for name in units if ", seed " in name))
    by_variant = {
        v: {n.rpartition(" ")[2]: u for n, u in units.items() if n.startswith(f"{v}, seed ")} for v in variants
    }

    def of_kind(trained: dict[str, dict[str, Any]], source: str, kind: str | None) -> dict[str, list[float]]:
        return {
            seed: [
                psnr
                for room, psnr in zip(unit["rooms"], unit[source]["psnr_after"], strict=True)
                if kind in (None, kinds.get(room))
            ]
            for seed, unit in trained.items()
        }

    scenes = "scenes" if "captured" in record else "rooms"
    head = f"| {' | '.join(name for name in names if name)} | mean | clean {scenes} |"
    lines = [f"| training {head}", "| --- |" + " --- |" * (len(names) + 1)]
    rows = [("none: the pretrained host", {"1": units["start"]})]
    rows += [(title(variant), trained) for variant, trained in by_variant.items()]
    for heading, trained in rows:
        for source, suffix in (("scores", ""), ("oracle", ", w known")):
            cells = [Summary.of(of_kind(trained, source, kind)).text() for kind in names]
            clean = {seed: unit["clean"]["psnr_after"] for seed, unit in trained.items()} if not suffix else {}
            lines.append(f"| {heading}{suffix} | {' | '.join(cells)} | {Summary.of(clean).text() if clean else ''} |")
    lines += ["", f"PSNR after TTO in dB, mean ± standard error over {scenes} (± over seeds)."]
    plain = by_variant.get("corrupted_plain")
    if plain is None or len(variants) < 2:
        return "\n".join(lines)
    lines += ["", f"| minus plain fine-tuning {head}", "| --- |" + " --- |" * (len(names) + 1)]
    for variant, trained in by_variant.items():
        for source, suffix in (("oracle", ", w known"),) if trained is plain else (("scores", ""),):
            cells = [
                Summary.difference(of_kind(trained, source, kind), of_kind(plain, "scores", kind)).text(sign=True)
                for kind in names
            ]
            own, other = ({s: u["clean"]["psnr_after"] for s, u in t.items()} for t in (trained, plain))
            clean_cell = "" if suffix else Summary.difference(own, other).text(sign=True)
            lines.append(f"| {title(variant)}{suffix} | {' | '.join(cells)} | {clean_cell} |")
    return "\n".join(lines)


def real_table(record: dict[str, Any]) -> str:
    """Captured images: before and after TTO, by data set."""
    units = record["units"]
    labels = list(dict.fromkeys(name.split(", ")[0] for name in units))
    variants = list(dict.fromkeys(name.split(", ")[1] for name in units))
    lines = ["| data | training | before TTO | after TTO | after, minus plain |", "| --- | --- | --- | --- | --- |"]
    for label in labels:
        own = {n.removeprefix(f"{label}, "): u for n, u in units.items() if n.startswith(f"{label}, ")}
        plain = _per_scene(own, "plain", "psnr_after") if "plain" in variants else {}
        for variant in variants:
            before, after = (_per_scene(own, variant, f"psnr_{side}") for side in ("before", "after"))
            cells = [Summary.of(before).text(), Summary.of(after).text()]
            cells.append("" if variant == "plain" or not plain else Summary.difference(after, plain).text(sign=True))
            lines.append(f"| {label} | {title(variant)} | {' | '.join(cells)} |")
    return (
        "\n".join(lines)
        + "\n\nPSNR on the target views in dB, mean ± standard error (± over seeds). A data set of several scenes "
        "counts each scene once (± over scenes), one of a single scene each of its windows (± over windows)."
    )


def plot_overfit(record: dict[str, Any], path: Path) -> None:
    """The curves of `overfit_table` as a figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
    steps = record["settings"]["overfit_steps"]
    for axis, (name, views) in zip(axes, (("psnr_context_after", "context"), ("psnr_after", "target")), strict=True):
        for scale in record["settings"]["grid_scales"]:
            found = [MeanAndError.of(record["rows"][f"weights x {scale:g}, {n} steps"][name]) for n in steps]
            axis.errorbar(
                steps, [f.mean for f in found], [f.standard_error for f in found], label=f"Λ × {scale:g}", capsize=2
            )
        axis.set(xlabel="inner steps", ylabel="PSNR, dB", title=f"{views} views", xscale="symlog")
        axis.grid(alpha=0.3)
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _by_seed(units: dict[str, Any], variant: str, name: str) -> dict[str, list[float]]:
    prefix = f"{variant}, seed "
    return {n.removeprefix(prefix): u["scores"][name] for n, u in units.items() if n.startswith(prefix)}


def _per_scene(units: dict[str, Any], variant: str, name: str) -> dict[str, list[float]]:
    """The mean of each scene's windows, which are called SCENE_NUMBER; the windows of a single scene as they are."""
    return {
        seed: per_scene(units[f"{variant}, seed {seed}"]["rooms"], values)
        for seed, values in _by_seed(units, variant, name).items()
    }


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "overfit": overfit_table,
    "ceilings": ceilings_table,
    "finetune": training_table,
    "outliers": outlier_table,
    "real": real_table,
    "captured": captured_table,
    "captured_pretraining": captured_pretraining_table,
    "captured_ceilings": ceilings_table,
    "captured_outliers": outlier_table,
    "cost": cost_table,
}
"""Experiment -> what is written of it."""
