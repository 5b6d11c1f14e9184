"""Progress on the console: bars in a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 20.0


def wide_console() -> Console:
    """Standard output; wide enough for the table where it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=130)


class Bar:
    """One task under way.

    Args:
        console: Where to report.
        progress: The bars of a terminal, or None.
        title: What is being done.
        total: How much there is to do; None if not known.
    """

    def __init__(self, console: Console, progress: Progress | None, title: str, total: float | None) -> None:
        self.console, self.progress, self.title, self.total = console, progress, title, total
        self.task = None if progress is None else progress.add_task(title, total=total, note="")
        self._reported = time.monotonic()

    def update(self, done: float, note: str = "", total: float | None = None) -> None:
        """Say how much is done, with a note; ``total`` where it is known only now."""
        self.total = self.total if total is None else total
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=self.total, note=note)
        elif time.monotonic() - self._reported > LINE_EVERY_SECONDS:
            self._reported = time.monotonic()
            of = "" if self.total is None else f" of {self.total:.0f}"
            self.console.print(f"  {self.title}: {done:.0f}{of} {note}", highlight=False)


@contextmanager
def bar(console: Console, title: str, total: float | None) -> Iterator[Bar]:
    """A progress bar for as long as the block runs, then one line with the time it took."""
    started = time.monotonic()
    if console.is_terminal:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield Bar(console, progress, title, total)
    else:
        console.print(f"  {title} ...", highlight=False)
        yield Bar(console, None, title, total)
    console.print(f"  {title}: done in {time.monotonic() - started:.0f} s", highlight=False)
