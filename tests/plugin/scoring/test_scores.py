"""PSNR and SSIM against their definitions; the record of a test."""

import csv
import json
import math

import pytest
import torch

from diff3r_plugin.metrics import psnr, ssim
from diff3r_plugin.plugin.scoring.scores import EvaluationRecord


def test_psnr_of_a_known_error_and_clipping():
    truth = torch.full((1, 2, 3, 4, 4), 0.5)
    image = truth.clone()
    image[:, 0] += 0.1
    image[:, 1] += 7.0  # clipped to 1
    assert psnr(truth, image)[0].tolist() == pytest.approx([20.0, 20 * math.log10(2)], rel=1e-5)


def test_ssim_is_its_definition():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 1, 3, 13, 12, generator=generator, dtype=torch.float64)
    values = []
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    window = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    for channel in range(3):
        for row in range(5, 13 - 5):
            for column in range(5, 12 - 5):
                a = x[0, channel, row - 5 : row + 6, column - 5 : column + 6]
                b = y[0, channel, row - 5 : row + 6, column - 5 : column + 6]
                ma, mb = (window * a).sum(), (window * b).sum()
                unbiased = 121 / 120
                va = unbiased * ((window * a * a).sum() - ma**2)
                vb = unbiased * ((window * b * b).sum() - mb**2)
                ab = unbiased * ((window * a * b).sum() - ma * mb)
                values.append((2 * ma * mb + 1e-4) * (2 * ab + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert ssim(x, y).item() == pytest.approx(torch.stack(values).mean().item(), abs=1e-9)
    assert ssim(x, x).item() == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(11, 11), (24, 40)])
def test_ssim_is_that_of_scikit_image(size):
    from skimage.metrics import structural_similarity

    truth = torch.rand(2, 3, *size, dtype=torch.float64)
    rendered = (truth + 0.2 * torch.randn_like(truth)).clamp(0, 1)
    options = dict(win_size=11, gaussian_weights=True, channel_axis=0, data_range=1.0)
    for ours, x, y in zip(ssim(truth, rendered), truth, rendered, strict=True):
        assert ours.item() == pytest.approx(structural_similarity(x.numpy(), y.numpy(), **options), abs=1e-6)


def test_ssim_of_pictures_smaller_than_the_window_is_nan():
    assert ssim(torch.rand(2, 3, 8, 20), torch.rand(2, 3, 8, 20)).isnan().all()


def entry(scene: str, before: float, after: float, **more) -> dict:
    others = {"ssim": 0.5, "psnr_context": 20.0}
    return {"scene": scene, "before": {"psnr": before, **others}, "after": {"psnr": after, **others}, **more}


def test_record_means_errors_and_file(tmp_path):
    solver = {"seconds": 0.5, "bad": math.nan, "energy": [2.0, 1.0]}
    record = EvaluationRecord([entry("a", 20.0, 22.0, **solver), entry("b", 22.0, 23.0, **solver)])
    gain = record.summary()["psnr"]["gain"]
    assert gain["mean"] == pytest.approx(1.5) and gain["standard_error"] == pytest.approx(0.5)
    record.write(tmp_path / "deep" / "scores.json", {"adapter": "x"})
    content = json.loads((tmp_path / "deep" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert content["adapter"] == "x" and content["scenes"][1]["scene"] == "b" and content["scenes"][0]["bad"] is None
    table = record.table().splitlines()
    assert "mean of 2" in table[-2] and "22.50" in table[-2] and len({len(line) for line in table}) == 1


def test_the_same_as_a_table_for_spreadsheets(tmp_path):
    swept = {"sweep": [{"steps": 8, "psnr": 23.5, "seconds": 1.0}]}
    record = EvaluationRecord([entry("a, b", 20.0, 22.0, seconds=0.5, bad=math.nan), entry("c", 21.0, 23.0, **swept)])
    record.write(tmp_path / "diff3r_scores.json", {})
    rows = list(csv.DictReader((tmp_path / "diff3r_scores.csv").read_text().splitlines()))
    assert [row["scene"] for row in rows] == ["a, b", "c"]
    assert rows[0]["psnr_before"] == "20.0" and rows[0]["psnr_after"] == "22.0" and rows[0]["bad"] == ""
    assert rows[1]["psnr_8_steps"] == "23.5" and rows[0]["psnr_8_steps"] == ""


def test_a_sweep_has_means_for_each_number_of_steps():
    def scene(name, *psnrs):
        rows = [{"steps": steps, "psnr": psnr, "seconds": 1.0} for steps, psnr in zip((0, 4, 16), psnrs, strict=False)]
        return entry(name, 20.0, 22.0, sweep=rows)

    record = EvaluationRecord([scene("a", 20.0, 22.0, 23.0), scene("b", 21.0, 22.0)])
    assert [(row["steps"], row["psnr"]["mean"]) for row in record.sweep()] == [(0, 20.5), (4, 22.0)]
    assert record.sweep_table().splitlines()[1].split() == ["0", "20.50", "1.00"]
    assert EvaluationRecord([entry("a", 1.0, 2.0)]).sweep_table() == ""


def test_a_metric_that_some_scene_lacks_is_no_column():
    with_lpips = entry("a", 20.0, 22.0)
    with_lpips["before"]["lpips"] = with_lpips["after"]["lpips"] = 0.1
    assert "LPIPS" in EvaluationRecord([with_lpips]).table()
    assert "LPIPS" not in EvaluationRecord([with_lpips, entry("b", 20.0, 22.0)]).table()
