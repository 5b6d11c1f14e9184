"""The demonstration's table and its differences, for the console and the report."""

from __future__ import annotations

from rich.table import Table

from diff3r_plugin.demo.results import TITLES, Comparison, Training
from diff3r_plugin.mean_and_error import MeanAndError


def table_rows(comparison: Comparison, trainings: dict[str, Training]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table: one row per training."""
    heading = ["training", "train s", "PSNR before", "PSNR after", "SSIM before", "SSIM after", "TTO s/scene"]
    rows = []
    for name, title in TITLES.items():
        if name in comparison.tests:
            test = comparison.tests[name]
            psnr = [MeanAndError.of(scores.psnr).text(2) for scores in (test.before, test.after)]
            ssim = [MeanAndError.of(scores.ssim).text(4) for scores in (test.before, test.after)]
            seconds = MeanAndError.of(test.seconds).mean
            rows.append([title, f"{trainings[name].seconds:.0f}", *psnr, *ssim, f"{seconds:.2f}"])
    return heading, rows


def console_table(comparison: Comparison, trainings: dict[str, Training], scenes: str) -> Table:
    """The table for the console; ``scenes`` says which they are."""
    heading, rows = table_rows(comparison, trainings)
    table = Table(title=f"Before and after test-time optimization (TTO), mean ± standard error over {scenes}")
    for index, name in enumerate(heading):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


def difference_lines(comparison: Comparison) -> list[str]:
    """The paired differences, a line each."""
    return [
        f"Diff3R minus {TITLES[name]}, both after TTO, per scene: "
        f"PSNR {difference.psnr.text(2, True)} dB, SSIM {difference.ssim.text(4, True)}"
        for name, difference in comparison.paired_difference.items()
    ]
