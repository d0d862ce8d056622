"""Label smoothing, focal loss and class weights."""

import json
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from test_distillation import LEARN, softmax
from test_training import history, killed_and_resumed, same_weights, train

from tinyconv import recipes
from tinyconv.errors import InputError
from tinyconv.training import losses, run_folder
from tinyconv.training import train as training
from tinyconv.training.distillation import Distillation
from tinyconv.training.run import Run

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (6, 4)).astype(np.float32)
LABELS = RNG.integers(4, size=6)
SHARES = RNG.dirichlet(np.ones(4), 6).astype(np.float32)
WEIGHTS = [0.5, 1.0, 3.0, 0.1]


def per_class(smoothing=0.0, gamma=0.0):
    """The loss of each image (6, 1) for each of the four classes (4, 4)."""
    probabilities = softmax(LOGITS)
    each = (1 - probabilities) ** gamma * -np.log(probabilities)
    return (1 - smoothing) * each + smoothing * each.mean(-1, keepdims=True)


@pytest.mark.parametrize("shares", [np.eye(4, dtype=np.float32)[LABELS], SHARES])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_loss_is_the_weighted_sum_of_those_of_the_classes(shares, smoothing, gamma, weights):
    recipe = replace(LEARN, label_smoothing=smoothing, focal_gamma=gamma)
    expected = (shares * (weights or 1) * per_class(smoothing, gamma)).sum(-1).mean()
    loss = losses.build(recipe, soft_labels=True, classes=4, class_weights=weights)
    assert float(loss(shares, LOGITS)) == pytest.approx(expected, rel=1e-4)
    if shares is not SHARES:
        loss = losses.build(recipe, soft_labels=False, classes=4, class_weights=weights)
        assert float(loss(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-4)


def test_the_smoothing_is_that_of_keras():
    ours = losses.WeightedLoss(4 * [1.0], 0.2, 0.0)(SHARES, LOGITS)
    keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    assert float(ours) == pytest.approx(float(keras_loss(SHARES, LOGITS)), rel=1e-5)


def test_class_weights_weigh_both_parts_of_the_loss_with_a_teacher():
    both = np.stack([LOGITS, LOGITS[::-1]], 1)
    apart = Distillation(keras.losses.SparseCategoricalCrossentropy(from_logits=True), 0.7, 3.0)
    single = [float(apart(LABELS[i : i + 1], both[i : i + 1])) for i in range(6)]
    loss = Distillation(losses.WeightedLoss(WEIGHTS, 0.0, 0.0), 0.7, 3.0)
    expected = np.mean(
        [WEIGHTS[label] * value for label, value in zip(LABELS, single, strict=True)]
    )
    assert float(loss(LABELS, both)) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Equal images: 40 of the first class and 8 of the second."""
    path = tmp_path_factory.mktemp("grey") / "grey.npz"
    x, y = np.zeros((48, 32, 32, 3), np.uint8), np.repeat([0, 1], [40, 8])
    x[:, :16] = 100
    np.savez(path, x_train=x, y_train=y, x_test=x[:2], y_test=[0, 1], class_names=["many", "few"])
    return path


@pytest.mark.parametrize(
    "mixed",
    [
        {},
        pytest.param({"mixup": 0.5}, marks=pytest.mark.slow),
        pytest.param({"cutmix": 0.5}, marks=pytest.mark.slow),
    ],
)
def test_balanced_weights_make_up_for_the_numbers_of_images(mixed, small, grey, tmp_path):
    """A net that sees no difference gives each class its share of the weighted images."""
    probabilities = {}
    for weights in (None, "balanced"):
        recipe = replace(LEARN, **mixed)
        options = {"model": small, "class_weights": weights}
        folder = train(grey, recipe, 30, 48, bool(mixed), tmp_path / str(weights), **options)
        model = keras.saving.load_model(folder / "model.keras")
        with np.load(grey) as file:
            probabilities[weights] = softmax(model.predict(file["x_test"], verbose=0))[0]
        report = json.loads((folder / "report.json").read_text())
        expected = {"many": 48 / 80, "few": 48 / 16} if weights else None
        assert report["class_weights"] == (expected and pytest.approx(expected))
        assert report["run"]["class_weights"] == weights
    assert probabilities[None][1] == pytest.approx(1 / 6, abs=0.05)
    assert probabilities["balanced"][1] == pytest.approx(1 / 2, abs=0.07)


@pytest.mark.slow
def test_the_fused_path_has_the_same_loss(npz, tmp_path):
    smooth = replace(recipes.get("muon"), label_smoothing=0.1, focal_gamma=2.0)
    rows = {}
    for fast in (True, False):
        options = {"fast": fast, "class_weights": "balanced"}
        rows[fast] = history(train(npz, smooth, 1, 8, True, tmp_path / str(fast), **options))[-1]
    assert float(rows[True]["loss"]) == pytest.approx(float(rows[False]["loss"]), rel=1e-3)


@pytest.mark.slow
def test_a_killed_run_with_every_setting_resumes_to_the_same_weights(small, npz, tmp_path):
    names = ("randaugment", "erase", "cutout")
    mine = replace(LEARN, augment=names, mixup=0.5, cutmix=0.5, teacher_weight=0.5)
    mine = replace(mine, label_smoothing=0.1, focal_gamma=1.5)
    teacher = train(npz, replace(LEARN, name="teach"), 2, 16, False, tmp_path / "teacher", small)
    options = {"model": small, "class_weights": "balanced", "teacher": teacher}
    run = partial(train, npz, mine, 2, 16, True, **options)
    whole, killed = killed_and_resumed(run, tmp_path)
    same_weights(whole, training.start(Run(**run_folder.read(whole).run), tmp_path / "again"))
    facts = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    assert facts[0]["recipe"] == facts[1]["recipe"]
    assert facts[0]["class_weights"] == facts[1]["class_weights"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"class_weights": "balance"}, "Unknown class weights 'balance': did you mean 'balanced'?"),
        ({"class_weights": "balanced"}, "The class none has no training image; bal"),
        ({"settings": {"dropout": 0.5}}, "The dropout of the recipe is 0.5, but small has no drop"),
        ({"settings": {"label_smoothing": 1}}, "is 1; it must be 0 or more and below 1."),
        ({"settings": {"focal_gamma": "-1"}}, "it must be 0 or more."),
        ({"settings": {"cutmix": "0.5"}}, "The setting cutmix needs augmentation; add --augment"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_folder_is_made(
    options, sentence, small, grey, tmp_path
):
    if "class_weights" in options:
        with np.load(grey) as file:
            np.savez(tmp_path / "more.npz", **dict(file) | {"class_names": ["many", "few", "none"]})
        grey = tmp_path / "more.npz"
    with pytest.raises(InputError) as error:
        train(grey, LEARN, 1, 8, False, tmp_path / "runs", model=small, **options)
    assert sentence in str(error.value)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
