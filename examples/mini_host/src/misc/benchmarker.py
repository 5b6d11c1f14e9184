"""How long the parts of a test run take."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import torch


class Benchmarker:
    def __init__(self) -> None:
        self.execution_times: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, tag: str, num_calls: int = 1) -> Iterator[None]:
        """Record the seconds a block takes, shared out among ``num_calls``."""
        start = self._now()
        try:
            yield
        finally:
            self.execution_times[tag] += [(self._now() - start) / num_calls] * num_calls

    def dump(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.execution_times))

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return perf_counter()
