"""Logs for other tools."""

import importlib.util
from collections import defaultdict
from functools import partial

import pytest
from conftest import command
from test_training import history, killed_and_resumed, train


@pytest.fixture
def events():
    """A function that reads the scalars of a log: (tag, step) -> all values of that step."""
    pytest.importorskip("tensorboard", reason="it comes with tinyconv[tensorboard]")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    def read(folder):
        found = defaultdict(list)
        for path in sorted(folder.glob("*.tfevents*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    found[value.tag, event.step].append(float(make_ndarray(value.tensor)))
        return found

    return read


def test_a_killed_and_resumed_run_has_each_epoch_once(small, npz, tmp_path, events):
    options = {"model": small, "tensorboard": True}
    for folder in killed_and_resumed(partial(train, npz, "muon", 3, 16, True, **options), tmp_path):
        for part, start in (("train", ""), ("validation", "val_")):
            found = events(folder / "tensorboard" / part)
            for key in ("accuracy", "loss"):
                steps = {step: v for (tag, step), v in found.items() if tag == f"epoch_{key}"}
                rows = [
                    [pytest.approx(float(row[start + key]), rel=1e-4)] for row in history(folder)
                ]
                assert [steps[step] for step in range(3)] == rows and len(steps) == 3


def test_without_the_flag_there_is_no_log(small, npz, tmp_path):
    folder = train(npz, "muon", 1, 48, True, tmp_path, model=small)
    assert not (folder / "tensorboard").exists()


def test_without_tensorboard_the_flag_is_refused(small, npz, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "tensorboard" else real(name, *rest),
    )
    given = ("--model", small, "--data", npz, "--tensorboard", "--out", tmp_path / "runs")
    _, said = command("train", *given, status=2)
    assert "needs TensorBoard: pip install 'tinyconv[tensorboard]'." in said
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
