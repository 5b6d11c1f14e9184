"""Times, ratios, counts and memory, on sizes that take no time."""

import json

import pytest
import torch

from benchmarks.gpu import figures, memory, timing, work, workloads
from benchmarks.gpu.record import Budget, Record
from benchmarks.gpu.scenes import float32_scene
from benchmarks.gpu.subject import Subject
from benchmarks.gpu.workloads import ROWS, TABLE, Size, Workload
from diff3r_plugin.render import available_backends, torch_backend

BACKEND, CPU = available_backends()[0], torch.device("cpu")
ONE, TWO = Size(4, (8, 12), 2, 1, 1), Size(4, (8, 12), 2, 2, 1)


def run(tmp_path, sizes, seconds=60.0):
    record = Record(tmp_path / "figures.json", "figures")
    figures.measure(record, Budget(seconds), sizes, BACKEND, CPU, row_seconds=0.0)
    return json.loads((tmp_path / "figures.json").read_text())


def test_every_row_is_timed_and_every_ratio_formed(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "achievable", lambda device, **_: {"bytes_per_second": 1e9, "flops_per_second": 1e9})
    found = run(tmp_path, [ONE, TWO])
    assert {(t["size"], t["row"]) for t in found["times"]} == {(str(s), row) for s in (ONE, TWO) for row in ROWS}
    assert all(t["seconds"] > 0 and t["repetitions"] >= 1 for t in found["times"])
    iterations = {t["size"]: t["pcg_iterations"] for t in found["times"] if "pcg_iterations" in t}
    assert iterations == {str(ONE): [8], str(TWO): [8, 8]}
    names = {f["figure"] for f in found["figures"] if f["size"] == str(TWO)}
    assert {"jvp / forward", "implicit backward, products", "batch / scenes one by one, implicit step"} <= names
    assert {f["verdict"] for f in found["figures"]} == {"not judged", "recorded"}, "a CPU is never judged"
    times = {(t["size"], t["row"]): t["seconds"] for t in found["times"]}
    ratio = next(f for f in found["figures"] if f["size"] == str(TWO) and f["figure"].endswith("one by one, product"))
    assert ratio["value"] == pytest.approx(times[str(TWO), "product"] / (2 * times[str(ONE), "product"]))
    assert {s["kernel"] for s in found["shares"]} == {"jvp", "product"}


def test_running_out_of_memory_skips_a_row_and_no_more(tmp_path, monkeypatch):
    def greedy(load):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 TiB")

    monkeypatch.setitem(ROWS, "gram", greedy)
    found = run(tmp_path, [ONE])
    assert [(n["row"], "2.00 TiB" in n["reason"]) for n in found["not_run"]] == [("gram", True)]
    assert "gram / backward" not in {f["figure"] for f in found["figures"]}
    assert "implicit step" in {t["row"] for t in found["times"]} and found["state"] == "running"
    assert timing.out_of_memory(RuntimeError("CUDA error: out of memory")) and timing.out_of_memory(MemoryError())
    assert not timing.out_of_memory(ValueError("out of memory"))


def test_other_errors_are_failures_of_their_row(tmp_path, monkeypatch):
    monkeypatch.setitem(ROWS, "gram", lambda load: 1 / 0)
    found = run(tmp_path, [ONE])
    assert found["state"] == "failed" and "ZeroDivisionError" in found["reason"] and "gram" in found["reason"]
    assert "implicit step" in {t["row"] for t in found["times"]}, "the rows after it count"


def test_without_time_the_sizes_are_listed_as_not_run(tmp_path):
    found = run(tmp_path, [ONE, TWO], seconds=0.0)
    assert [n["size"] for n in found["not_run"]] == [str(ONE), str(TWO)]
    assert found["state"] == "truncated" and "times" not in found


@pytest.mark.parametrize(
    ("value", "must", "aim", "expected"),
    [
        (1.0, 1.7, 1.1, "aim"),
        (1.5, 1.7, 1.1, "pass"),
        (1.8, 1.7, 1.1, "miss"),
        (float("nan"), 1.7, 1.1, "miss"),
        (None, 1.7, 1.1, "miss"),
        (0.4, 0.5, None, "pass"),
        (9.0, None, None, "recorded"),
    ],
)
def test_verdicts(value, must, aim, expected):
    assert figures.verdict(value, must, aim, judged=True) == expected


def test_the_table_is_that_of_the_targets():
    assert {s.gaussians for s in TABLE} == {131_072, 524_288} and {s.batch for s in TABLE} == {1, 8}
    assert {(s.image, s.views) for s in TABLE} == {((256, 256), 2), ((512, 960), 4)}
    assert len(TABLE) == len(set(TABLE)) == 16
    limits = {name: limits for name, (_, *limits) in figures.RATIOS.items()}
    assert limits["jvp / forward"] == [1.7, 1.1] and limits["product / (forward + backward)"] == [1.0, 0.6]
    assert limits["gram / backward"] == [3.0, 1.5] and limits["implicit backward, products"] == [10.0, 9.0]
    assert figures.BATCH_RATIOS["implicit step"][0] == 0.5


def test_workloads_fill_their_images():
    load = Workload(Size(16, (24, 40), 2, 2, 0), BACKEND, CPU)
    assert load.gaussians.means.shape == (2, 512, 3) and load.views.world_to_camera.shape == (2, 2, 4, 4)
    assert not torch.equal(load.gaussians.means[0], load.gaussians.means[1]), "two scenes, not one twice"
    image = load.forward()
    assert image.shape == (2, 2, 3, 24, 40) and (image.sum(2) > 0).float().mean() > 0.95
    gradients = load.forward_backward()
    torch.testing.assert_close(gradients[0], load.lin.vjp(load.cotangent).means)
    assert workloads.pixel_aligned_batch(ONE)[0].harmonics.shape == (1, 32, 3, 4)


def test_timing_takes_the_median_and_keeps_to_its_budget(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    assert timing.timed(lambda: None, CPU, repetitions=5, budget=100.0) == (1.0, 5)
    assert timing.timed(lambda: None, CPU, repetitions=50, budget=4.0) == (1.0, 4)
    assert timing.timed(lambda: None, CPU, repetitions=50, budget=0.2)[1] == 1


def test_pairs_are_those_of_the_reference(monkeypatch):
    monkeypatch.setattr(work, "LISTED_AT_ONCE", 100)  # several chunks
    scene, views = float32_scene(batch=2, gaussians=60, views=2, size=(37, 50), seed=3, spread=0.7)
    pairs = work.count_pairs(scene, views)
    splats = torch_backend.project(scene, views)
    blended = 0
    for pixels in torch_backend._pixel_chunks(splats, views):
        blended += int((torch_backend.blending_weights(splats, pixels)[1] > 0).sum())
    assert pairs.blended == blended
    assert pairs.blended < pairs.visited < 256 * pairs.listed


def test_visited_pairs_end_where_the_light_ends():
    """Of 200 splats over one tile a pixel takes three (0.05³ > 1e-4), and looks at the one that is too many."""
    scene, views = float32_scene(gaussians=200, views=1, size=(16, 16), spread=0.0, opacities=(0.95, 0.95))
    means = scene.means + torch.linspace(0, 1, 200, dtype=torch.float64)[None, :, None] * torch.tensor([0.0, 0, 1])
    scene = type(scene)(means, 1e4 * torch.eye(3).double().expand(1, 200, 3, 3), scene.opacities, scene.harmonics)
    pairs = work.count_pairs(scene, views)
    assert (pairs.listed, pairs.visited, pairs.blended) == (200, 256 * 4, 256 * 3)


def test_counts_of_operations_and_bytes():
    pairs = work.Pairs(listed=10, visited=100, blended=20)
    assert work.flops("jvp", pairs) == 13 * 100 + 46 * 20 and work.flops("product", pairs) == 26 * 100 + 77 * 20
    scene, views = float32_scene(gaussians=5, views=2, size=(4, 6), degree=1)
    numbers, splats, pixels = 5 * (3 + 9 + 1 + 12), 10, 48
    assert work.bytes_moved("jvp", pairs, scene, views) == 4 * (2 * numbers + 9 * splats) + 760 + 12 * pixels
    assert work.bytes_moved("product", pairs, scene, views) == 4 * (4 * numbers + 18 * splats) + 1880 + 16 * pixels
    rates = work.achievable(CPU, copied=2**16, side=16)
    assert rates["bytes_per_second"] > 0 and rates["flops_per_second"] > 0


def test_memory_is_recorded_for_every_number_of_steps(tmp_path):
    record, tested = Record(tmp_path / "memory.json", "memory"), Subject(BACKEND, CPU)
    memory.against_steps(record, Budget(60), tested, 4, (1, 2))
    memory.against_unrolled(record, Budget(60), tested, 4, (2,))
    found = json.loads((tmp_path / "memory.json").read_text())
    assert [e["inner_steps"] for e in found["implicit"]] == [1, 2]
    modes = {"unrolled, torch", "implicit, torch", f"implicit, {BACKEND}"}
    assert {e["mode"] for e in found["unrolled"]} == modes and all(e["seconds"] > 0 for e in found["unrolled"])
    memory.against_steps(record, Budget(0), tested, 4, (1,))
    assert record.content["not_run"][0]["reason"] == "no time left"


def test_memory_that_grows_with_the_steps_misses():
    assert memory.constancy({1: 100, 100: 104}, "size", judged=True)["verdict"] == "pass"
    assert memory.constancy({1: 100, 100: 300}, "size", judged=True)["verdict"] == "miss"
    found = {"unrolled, torch": {"bytes": 1000}, "implicit, torch": {"bytes": 40}, "implicit, gsplat": {"bytes": 30}}
    entries = list(memory.comparisons("size", 100, found, judged=True, last=True))
    assert [e["verdict"] for e in entries] == ["aim", "recorded"]
    found["implicit, torch"]["bytes"] = 100
    assert next(memory.comparisons("size", 100, found, judged=True, last=True))["verdict"] == "aim missed"
    found["unrolled, torch"]["bytes"] = None  # it did not fit: there is nothing to compare with
    assert not list(memory.comparisons("size", 100, found, judged=True, last=True))


def test_memory_running_out_is_an_entry_not_an_error(monkeypatch):
    def greedy():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    assert memory.measured(greedy, CPU) == {
        "bytes": None,
        "seconds": None,
        "reason": "OutOfMemoryError: CUDA out of memory.",
    }
