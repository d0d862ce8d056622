import keras
import numpy as np
import pytest
from conftest import command, run

from tinyconv import create_model


def test_summary():
    *_, last = command("summary", "cifar10_tiny")[0].splitlines()
    assert last.split() == ["cifar10_tiny", "170,282", "100.00%", "34,768,128"]


def test_summary_of_a_model_of_ones_own(tmp_path):
    layers = (keras.layers.Flatten(), keras.layers.Dense(2))
    keras.Sequential([keras.Input((2, 2, 3)), *layers]).save(tmp_path / "mine.keras")
    _, *rows = command("summary", tmp_path / "mine.keras")[0].splitlines()
    assert [row.split()[1] for row in rows[-3:-1]] == ["Flatten", "Dense"]


@pytest.mark.slow
def test_evaluate(npz, tmp_path):
    model = create_model("cifar10_tiny_half", num_classes=3)
    model.get_layer("head_dense").kernel.assign(np.zeros((64, 3)))
    model.get_layer("head_dense").bias.assign([0, 1, 0])  # everything is green
    model.save(tmp_path / "green.keras")
    printed, _ = run("-m", "tinyconv", "evaluate", tmp_path / "green.keras", "--data", npz)
    assert "8 of 24 images right: accuracy 33.33%, error 66.67%, top-5 100.00%" in printed
    assert printed.split("green")[1].split()[:4] == ["0.333", "1.000", "0.500", "8"]
    command("summary", tmp_path / "green.keras")
