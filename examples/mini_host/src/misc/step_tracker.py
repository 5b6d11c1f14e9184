"""The training step, shared between the model and the data loaders' worker processes."""

from multiprocessing import RLock, Value


class StepTracker:
    def __init__(self) -> None:
        self.lock = RLock()
        self.step = Value("q", 0, lock=False)

    def set_step(self, step: int) -> None:
        with self.lock:
            self.step.value = step

    def get_step(self) -> int:
        with self.lock:
            return self.step.value
