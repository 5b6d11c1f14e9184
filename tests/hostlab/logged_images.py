"""Counts the images that a host's run has logged, as files or in TensorBoard's event files."""

from pathlib import Path


def logged_images(folder: Path) -> int:
    """PNG files below the logger's folder of a run, and images of the newest event file, if there is one."""
    files = len(list((folder / "cwd" / "outputs").rglob("*.png")))
    events = sorted(folder.rglob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime)
    if not events:
        return files
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(events[-1]), size_guidance={"images": 0})
    read.Reload()
    return files + sum(len(read.Images(tag)) for tag in read.Tags()["images"])
