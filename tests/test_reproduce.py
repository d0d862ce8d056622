"""The script that trains the models that ship again."""

import importlib.util
import json
import shutil

import pytest
from conftest import ROOT, run
from test_weights import CIFAR10

from tinyconv import trained
from tinyconv.errors import InputError

needs_cifar10 = pytest.mark.skipif(not CIFAR10.exists(), reason=f"no CIFAR-10 in {CIFAR10.parent}")


@pytest.fixture
def reproduce():
    spec = importlib.util.spec_from_file_location("reproduce", ROOT / "models/reproduce.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reproduce


def ship(folder, net, monkeypatch, **changes):
    """Let a copy of the model that ships for `resnet20` ship for `net`, with a changed report."""
    shutil.copytree(trained.folder() / "resnet20", folder / net)
    report = json.loads((folder / net / "report.json").read_text())
    for part in ("run", "recipe"):
        report[part] |= changes.pop(part, {})
    report["run"]["model"] = net
    (folder / net / "report.json").write_text(json.dumps(report | changes))
    monkeypatch.setattr(trained, "path", lambda net: folder / net / "model.keras")


@pytest.mark.slow
@needs_cifar10
def test_a_rehearsal_trains_the_teacher_and_then_the_net(reproduce, tmp_path, monkeypatch):
    ship(tmp_path, "resnet20", monkeypatch)
    changed = {"teacher": "resnet20", "batch_size": 32}
    ship(tmp_path, "cifar10_tiny_half", monkeypatch, run=changed, recipe={"learning_rate": 0.002})
    out = tmp_path / "again"
    folder = reproduce("cifar10_tiny_half", out, steps=2)
    (teacher,) = out.glob("*-resnet20-*")
    report = json.loads((folder / "report.json").read_text())
    assert report["teacher"]["sha256"] == trained.sha256(teacher / "model.keras")
    assert report["run"]["epochs"] == 1 and report["images"]["train"] == 64
    shipped = json.loads((tmp_path / "cifar10_tiny_half/report.json").read_text())
    assert {k: report["recipe"][k] for k in shipped["recipe"]} == shipped["recipe"]
    (folder / "report.json").write_text(json.dumps(report | {"status": "interrupted"}))
    assert reproduce("cifar10_tiny_half", out, steps=2) == folder
    assert json.loads((folder / "report.json").read_text())["status"] == "complete"
    assert len(list(out.glob("*/model.keras"))) == 2


@pytest.mark.slow
@needs_cifar10
def test_the_command_says_both_accuracies(tmp_path):
    printed, _ = run("models/reproduce.py", "resnet20", "--steps", 2, "--out", tmp_path / "again")
    assert "Test accuracy of the model that ships 92.13%, of " in printed.splitlines()[-1]


def test_a_model_that_started_from_another_is_refused(reproduce, tmp_path, monkeypatch):
    ship(tmp_path, "resnet20", monkeypatch, started_from={"file": "a", "sha256": "1"})
    with pytest.raises(InputError, match=r"resnet20 did not start from random weights\."):
        reproduce("resnet20", tmp_path / "again")
