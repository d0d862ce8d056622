import json
import sys

import pytest
from conftest import run

from tinyconv import originals, timing
from tinyconv.errors import InputError

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


def test_compare_times_the_original_in_the_same_run(tmp_path, timm):
    measured = timing.measure(["test_vit"], batch_size=1, runs=1, seconds=0.01, compare=True)
    ours, theirs = measured
    assert (ours.model, theirs.model) == ("test_vit", "test_vit (PyTorch)")
    for spread in (theirs.training, theirs.inference, theirs.latency):
        assert spread.low > 0
    assert theirs.size == 4 * 371_240


def test_without_what_makes_the_original_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="The original of test_vit cannot be imported"):
        originals.find("test_vit")
