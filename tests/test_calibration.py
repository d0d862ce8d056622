"""Calibration: the error, the temperature, and the model and the report of a calibrated run."""

import json

import keras
import numpy as np
import pytest
from conftest import command
from scipy.special import softmax

from tinyconv import calibration, saving, train


def test_the_error_is_the_weighted_mean_gap_of_the_bins():
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.4, 0.6], [0.45, 0.55], [1, 0]])
    labels = np.array([0, 1, 1, 0, 0])
    found = calibration.reliability(probabilities, labels, bins=10)
    assert found.count.tolist() == [1, 1, 3]  # 0.5 to 0.6, 0.6 to 0.7, 0.9 to 1
    gaps = [0.55, 0.4, abs((0.95 + 0.92 + 1) / 3 - 2 / 3)]
    assert found.error == pytest.approx((gaps[0] + gaps[1] + 3 * gaps[2]) / 5)


@pytest.mark.parametrize("wanted", [0.3, 1.0, 4.0])
def test_the_temperature_of_overconfident_logits_is_found(wanted):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(20_000, 5))
    shares = softmax(logits, axis=-1)
    labels = (shares.cumsum(axis=-1) < rng.uniform(size=(20_000, 1))).sum(axis=-1)
    assert calibration.temperature(wanted * logits, labels) == pytest.approx(wanted, rel=0.05)


def test_no_temperature_fits_perfect_answers():
    assert calibration.temperature(np.eye(3) * 5, np.arange(3)) is None


def test_answers_that_are_not_numbers_are_left_out():
    probabilities, labels = np.array([[0.7, 0.3], [np.nan, np.nan]]), np.array([0, 1])
    assert calibration.reliability(probabilities, labels).error == pytest.approx(0.3)
    assert np.isnan(calibration.reliability(probabilities[1:], labels[1:]).error)


def test_a_calibrated_run_divides_its_logits_and_says_so(small, npz, arrays, tmp_path):
    options = {"model": small, "data": npz, "epochs": 2, "holdout": 12, "out": tmp_path}
    plain, calibrated = train(**options), train(**options, calibrate=True)
    report = json.loads((calibrated / "report.json").read_text())
    before, after = (saving.load_model(run / "model.keras") for run in (plain, calibrated))
    images = arrays["x_test"].astype(np.float32)
    assert report["temperature"] != 1
    np.testing.assert_allclose(
        report["temperature"] * after.predict(images, verbose=0),
        before.predict(images, verbose=0),
        rtol=1e-4,
        atol=1e-5,
    )
    text = (calibrated / "report.txt").read_text()
    assert f"divided by the temperature {report['temperature']:.3f}" in text
    assert json.loads((plain / "report.json").read_text())["temperature"] is None
    printed, _ = command("evaluate", calibrated, "--out", tmp_path / "pictures")
    assert f"calibration error {report['test']['calibration_error']:.2%}" in printed


def test_a_resumed_run_is_calibrated_once(small, npz, tmp_path):
    options = {"model": small, "data": npz, "holdout": 12, "out": tmp_path, "calibrate": True}
    whole = train(**options, epochs=2)
    weights = saving.load_model(whole / "model.keras").get_weights()
    command("train", "--resume", whole)
    again = saving.load_model(whole / "model.keras").get_weights()
    for one, other in zip(weights, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_calibration_needs_held_out_images_and_a_dense_head(small, npz, tmp_path):
    given = ("--data", npz, "--calibrate", "--out", tmp_path / "runs", "--epoch", 1)
    _, said = command("train", "--model", small, *given, status=2)
    assert "--calibrate must not choose by the test images" in said
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(3, 32)(keras.layers.Rescaling(1 / 255)(image))
    other = tmp_path / "other.keras"
    keras.Model(image, keras.layers.Flatten()(x)).save(other)
    _, said = command("train", "--model", other, *given, "--holdout", 12, status=2)
    assert "--calibrate needs a net that ends in a Dense layer" in said
    assert not list(tmp_path.glob("runs/*"))


def test_a_head_that_is_called_twice_is_not_divided():
    dense = keras.layers.Dense(4)
    image = keras.Input((4,))
    assert calibration.head(keras.Model(image, dense(image))) is dense
    assert calibration.head(keras.Model(image, dense(dense(image)))) is None
