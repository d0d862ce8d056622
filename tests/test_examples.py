"""Every example is short, and runs as its first lines say. The page to a phone runs as it says."""

import json
import re
import shlex
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, command, run
from PIL import Image

EXAMPLES = ROOT / "examples"
PHONE = ROOT / "docs/folder-to-phone.md"
MODEL = ROOT / "models/cifar10_tiny/model.keras"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_under_forty_lines_and_run_here(path):
    assert len(path.read_text().splitlines()) < 40
    assert f"test_{path.stem}" in globals()


@pytest.mark.slow
def test_load(folder):
    out, _ = run(EXAMPLES / "load.py", MODEL, folder / "red/0.png", folder / "red/3.png")
    classes = json.loads(MODEL.with_name("report.json").read_text())["classes"]
    lines = out.splitlines()
    assert len(lines) == 2 and all(line.split(": ")[1].split(",")[0] in classes for line in lines)


@pytest.mark.slow
def test_finetune(folder, tmp_path):
    out, _ = run(EXAMPLES / "finetune.py", folder, tmp_path / "mine.keras", 3)
    assert json.loads((tmp_path / "mine.json").read_text()) == ["blue", "green", "red"]
    model = keras.models.load_model(tmp_path / "mine.keras")
    assert model.output_shape == (None, 3)
    assert float(out.split("val_accuracy: ")[-1].split()[0]) > 0.8


@pytest.mark.slow
def test_features(folder):
    files = [folder / name for name in ("red/0.png", "green/1.png", "red/3.png", "green/4.png")]
    out, _ = run(EXAMPLES / "features.py", *files)
    assert out.startswith("4 images, 128 features each")
    for file, nearest in zip(files, (2, 3, 0, 1), strict=True):
        assert f"{file}: nearest is {files[nearest]}, cosine" in out


def accuracies(out, number):
    """The accuracies that an example printed, which are those of the reports."""
    *_, last = out.splitlines()
    printed = [float(line.split()[-1].rstrip("%")) for line in out.splitlines()[-1 - number : -1]]
    mean, deviation = (float(part.split()[-1].rstrip("%")) for part in last.split(", "))
    assert mean == pytest.approx(np.mean(printed), abs=0.02)
    assert deviation == pytest.approx(np.std(printed, ddof=1), abs=0.02)
    return sorted(printed)


def reports(folder):
    files = sorted(folder.glob("*/report.json"))
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
def test_kfold(npz, tmp_path):
    out, _ = run(EXAMPLES / "kfold.py", npz, 2, 1, tmp_path / "runs")
    found = reports(tmp_path / "runs")
    assert [report["images"]["test"] for report in found] == [24, 24]
    expected = sorted(round(100 * report["test"]["accuracy"], 2) for report in found)
    assert accuracies(out, 2) == expected


@pytest.mark.slow
def test_seeds(npz, tmp_path):
    out, _ = run(EXAMPLES / "seeds.py", npz, 2, 1, tmp_path / "runs")
    found = reports(tmp_path / "runs")
    assert sorted(report["run"]["seed"] for report in found) == [0, 1]
    expected = sorted(round(100 * report["test"]["accuracy"], 2) for report in found)
    assert accuracies(out, 2) == expected


@pytest.mark.slow
def test_rate(npz, tmp_path):
    out, _ = run(EXAMPLES / "rate.py", npz, 12, tmp_path / "rate.png")
    assert 1e-5 < float(out.split("at the learning rate ")[-1]) < 1
    assert min(Image.open(tmp_path / "rate.png").size) > 200


@pytest.mark.slow
def test_search(npz, tmp_path):
    pytest.importorskip("optuna", reason="the example needs Optuna")
    out, _ = run(EXAMPLES / "search.py", npz, 12, 2, 1, tmp_path / "runs")
    found = reports(tmp_path / "runs")
    rates = [report["recipe"]["learning_rate"] for report in found]
    assert len(set(rates)) == 2 and all(report["images"]["holdout"] == 12 for report in found)
    last = out.splitlines()[-1]
    assert any(f"--set learning_rate={rate} --set label_smoothing=" in last for rate in rates)


@pytest.mark.slow
def test_outliers(npz):
    out, _ = run(EXAMPLES / "outliers.py", npz, "digits")
    areas = [float(line.split(" of 1")[0].split()[-1]) for line in out.splitlines()]
    assert len(areas) == 4 and all(0 <= area <= 1 for area in areas)
    assert areas[-1] > 0.9  # by neighbours, noise in three colours is nothing like digits


@pytest.mark.slow
def test_the_page_from_a_folder_to_a_phone_runs(folder, tmp_path, monkeypatch, capsys):
    """Every command and program of the page, in its order, with one epoch."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    monkeypatch.chdir(tmp_path)
    page = PHONE.read_text(encoding="utf-8")
    shell, python = (re.findall(rf"```{kind}\n(.*?)```", page, re.S) for kind in ("sh", "python"))
    install, train, *exports = [shlex.split(line) for block in shell for line in block.splitlines()]
    assert install[:3] == ["pip", "install", "-e"] and len(exports) == 2
    command(*train[1:], "--epoch", 1)
    (ran,) = (tmp_path / "models").iterdir()
    for line in exports:
        command(*(str(ran) if word == "models/RUN" else word for word in line[1:]))
    labels, check = python
    exec(labels.replace("models/RUN", str(ran)), {})
    assert (tmp_path / "labels.txt").read_text().split() == ["blue", "green", "red"]
    photo = str(folder / "red" / "0.png")
    ((best, *_),) = [json.loads(command("predict", ran, photo, "--json")[0])["top"]]
    for file, within in (("cifar10_tiny.tflite", 0.001), ("cifar10_tiny-int8.tflite", 0.1)):
        monkeypatch.setattr(sys, "argv", ["check.py", file, photo])
        capsys.readouterr()
        exec(check, {})
        share, name = capsys.readouterr().out.splitlines()[0].split()
        assert name == best["class"]
        assert float(share.rstrip("%")) / 100 == pytest.approx(best["probability"], abs=within)
