"""Training with a teacher."""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from test_training import killed_and_resumed, train

from tinyconv import hub_card, recipes
from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.trained import Trained
from tinyconv.training import train as training
from tinyconv.training.distillation import Distillation, Teacher, open_teacher, with_teacher

LEARN = replace(
    recipes.RECIPES["digits"], name="learn", learning_rate=0.02, augment=(), teacher_weight=1.0
)
NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def teacher(small, npz, tmp_path_factory):
    """A run folder whose model is right on nearly all images."""
    out = tmp_path_factory.mktemp("teacher")
    return train(npz, replace(LEARN, name="teach"), 12, 8, False, out, small)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("soft_labels", [False, True])
def test_the_loss_is_that_of_the_paper(soft_labels):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (2, 5, 4))
    labels = rng.integers(4, size=5)
    p, q = softmax(teacher / 3), softmax(student / 3)
    distance = (p * np.log(p / q)).sum(-1)
    cross_entropy = -np.log(softmax(student)[np.arange(5), labels])
    expected = 0.7 * 9 * distance + 0.3 * cross_entropy
    kind = "Categorical" if soft_labels else "SparseCategorical"
    loss = Distillation(getattr(keras.losses, f"{kind}Crossentropy")(from_logits=True), 0.7, 3.0)
    found = loss(np.eye(4)[labels] if soft_labels else labels, np.stack([student, teacher], 1))
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("fast", [False, True])
def test_the_outputs_of_the_teacher_are_those_of_the_image_and_the_class(fast):
    """A teacher of 48x48 pixels, with probabilities, and its classes in another order."""
    image = keras.Input((48, 48, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, 2)(image))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.9)(x))
    model = keras.Model(image, keras.layers.Dense(3, "softmax")(x))
    trained = Trained(model, ("blue", "red", "green"), None, probabilities=True)
    student = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    student.add(keras.layers.Dense(3))
    both = with_teacher(student, Teacher(trained, (1, 2, 0), {}), Devices(), mixed=False, fast=fast)
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    found = np.asarray(both(images, training=True))
    larger = keras.ops.image.resize(images, (48, 48), antialias=True)
    probabilities = np.asarray(model(larger))[:, [1, 2, 0]]
    np.testing.assert_allclose(found[:, 0], np.asarray(student(images)), rtol=1e-5)
    np.testing.assert_allclose(softmax(found[:, 1]), probabilities, rtol=1e-4, atol=1e-6)
    assert [w.path for w in both.trainable_weights] == [w.path for w in student.trainable_weights]


@pytest.mark.slow
def test_a_net_learns_from_its_teacher_where_the_labels_are_wrong(small, teacher, npz, tmp_path):
    with np.load(npz) as file:
        arrays = dict(file)
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, **arrays | {"y_train": (arrays["y_train"] + 1) % 3})
    accuracy = {}
    for name, options in (("labels", {}), ("teacher", {"teacher": teacher})):
        folder = train(wrong, LEARN, 12, 8, False, tmp_path / name, small, **options)
        report = json.loads((folder / "report.json").read_text())
        accuracy[name] = report["test"]["accuracy"]
    assert accuracy["labels"] < 0.1 and accuracy["teacher"] > 0.9
    digest = hashlib.sha256((teacher / "model.keras").read_bytes()).hexdigest()
    assert report["teacher"]["sha256"] == digest
    assert report["teacher"]["run"]["recipe"] == "teach"
    assert f"taught by {teacher / 'model.keras'}, {digest}" in (folder / "report.txt").read_text()
    shared = json.dumps(hub_card.shareable(report))
    assert digest in shared and str(teacher.parent) not in shared


def test_a_killed_run_with_a_teacher_resumes_to_the_same_weights(small, teacher, npz, tmp_path):
    """With mixup, the teacher sees mixed images."""
    mine = replace(LEARN, augment=("flip",), mixup=0.5)
    options = {"model": small, "teacher": teacher}
    killed_and_resumed(partial(train, npz, mine, 2, 16, True, **options), tmp_path)


def test_a_run_does_not_resume_with_another_teacher(small, teacher, npz, tmp_path):
    mine = shutil.copytree(teacher, tmp_path / "mine")
    folder = train(npz, LEARN, 1, 16, False, tmp_path / "runs", small, teacher=mine)
    shutil.copy(folder / "model.keras", mine / "model.keras")
    with pytest.raises(InputError, match=r"mine/model.keras is not the teacher that .* was start"):
        training.resume(folder, 2)
    shutil.rmtree(mine)
    with pytest.raises(InputError, match=r"mine/model.keras"):
        training.resume(folder, 2)


def test_a_teacher_of_other_classes_is_refused(small, teacher, npz, tmp_path):
    with pytest.raises(InputError, match=r"has other classes than the data .the class airplane is"):
        train(npz, LEARN, 1, 16, False, tmp_path / "runs", small, teacher="resnet20")
    alone = shutil.copy(teacher / "model.keras", tmp_path / "alone.keras")
    with pytest.raises(InputError, match="has 3 classes, but the data have 10"):
        train("digits", LEARN, 1, 16, False, tmp_path / "runs", "resnet20", teacher=alone)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_classes_in_another_order_are_put_in_order(teacher, tmp_path, capsys):
    assert open_teacher(str(teacher), ("blue", "red", "green")).order == (2, 0, 1)
    alone = shutil.copy(teacher / "model.keras", tmp_path / "alone.keras")
    assert open_teacher(str(alone), NAMES).order == (0, 1, 2)
    assert "they are taken in order" in capsys.readouterr().out
