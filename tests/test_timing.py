import json

import pytest
from conftest import run

NET = "cifar10_tiny_half"


def test_timing_measures_and_draws(tmp_path):
    printed, _ = run("timing.py", "--model", NET, "--batch", 4, "--runs", 2, "--out", tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"timing.json", "timing.png"}
    report = json.loads((tmp_path / "timing.json").read_text())
    (net,) = report["nets"]
    assert (net["parameters"], net["macs"]) == (48_794, 10_044_032)
    assert len(net["training"]["values"]) == len(net["inference"]["values"]) == 2
    assert net["seconds_per_epoch"] == pytest.approx(50_000 / net["training_median"])
    assert net["inference_median"] > net["training_median"]
    assert net["latency_p99"] >= net["latency_median"] > 0
    assert 4 * 48_794 < net["size"] < 6 * 4 * 48_794
    assert NET in printed and "48,794" in printed and "10.04" in printed
    assert f"median and range of {report['runs']} runs" in printed
