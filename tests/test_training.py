"""The main job, run as a user runs it."""

import csv
import hashlib
import json
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import command, run, start, wait_for

from tinyconv import cli, create_model, data, optimizers, recipes, report
from tinyconv.errors import InputError
from tinyconv.fast import proof
from tinyconv.training import train as training
from tinyconv.training import trainer
from tinyconv.training.run import Run
from tinyconv.training.run_folder import CHECKPOINT

FILES = {
    "model.keras",
    "history.csv",
    "report.json",
    "report.txt",
    "curves.png",
    "confusion.png",
    "checkpoint.npz",
}
SMALL = ("--model", "cifar10_tiny_half", "--batch", "8", "--augment")


def only_run(out):
    (folder,) = out.iterdir()
    return folder


def train(data, recipe, epochs, batch_size, augment, out, model="cifar10_tiny_half", **options):
    """`tinyconv.train`, with what most tests give by position."""
    return training.train(
        model,
        data,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        augment=augment,
        out=out,
        **options,
    )


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(npz, tmp_path_factory):
    """A run of two epochs and what it printed."""
    out = tmp_path_factory.mktemp("runs and ü")
    printed, _ = run("train.py", *SMALL, "--data", npz, "--epoch", 2, "--out", out)
    return only_run(out), printed


@pytest.fixture(scope="module")
def small_run(small, npz, tmp_path_factory):
    """The folder of a run of two epochs from the small model."""
    return train(npz, "cifar10_tiny", 2, 16, False, tmp_path_factory.mktemp("small"), model=small)


@pytest.mark.slow
def test_a_run_folder_has_every_file_and_a_report_that_agrees(trained, npz):
    folder, printed = trained
    assert {file.name for file in folder.iterdir()} == FILES
    assert folder.name.endswith("-cifar10_tiny_half-colours")
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "complete"
    assert report["run"] == {
        "model": "cifar10_tiny_half",
        "data": str(npz),
        "recipe": "cifar10_tiny",
        "epochs": 2,
        "batch_size": 8,
        "augment": True,
        "seed": 0,
        "holdout": 0,
        "mixed": False,
        "tpu": None,
        "freeze": False,
        "devices": None,
        "fast": True,
        "data_range": None,
        "teacher": None,
        "class_weights": None,
        "early_stop": None,
        "keep": "last",
        "tensorboard": False,
        "calibrate": False,
    }
    assert report["images"] == {"train": 48, "holdout": 0, "test": 24}
    assert report["recipe"]["learning_rate"] == 0.002
    assert {"python", "keras", "tensorflow", "tinyconv"} <= set(report["machine"]["versions"])
    for part in ("train", "test"):
        assert report[part]["accuracy"] + report[part]["error"] == pytest.approx(1)
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["val_accuracy"]) == pytest.approx(report["test"]["accuracy"])
    assert float(rows[-1]["val_loss"]) == pytest.approx(report["test"]["loss"], rel=1e-4)
    assert report["timing"]["seconds_per_epoch_mean"] == pytest.approx(
        np.mean([float(row["seconds"]) for row in rows])
    )
    text = (folder / "report.txt").read_text()
    assert text in printed
    for words in ("accuracy", "seconds per epoch, median", "images per second", "macro avg", "red"):
        assert words in text


@pytest.mark.slow
def test_output_to_a_file_has_one_line_per_epoch(trained):
    _, printed = trained
    lines = printed.splitlines()
    assert [line for line in lines if line.startswith("Epoch")] == ["Epoch 1/2", "Epoch 2/2"]
    results = [line for line in lines if line.startswith("6/6 - ")]
    assert len(results) == 2 and all("val_accuracy" in line for line in results)
    assert not {"\r", "\b", "\x1b", "━"} & set(printed)


@pytest.mark.slow
def test_the_model_loads_without_tinyconv_and_answers_to_the_bit(trained, arrays, tmp_path):
    folder, _ = trained
    np.save(tmp_path / "images.npy", arrays["x_test"])
    app = """
import sys
sys.modules["tinyconv"] = None  # importing it fails from here on
import numpy as np, tensorflow as tf
model, images = tf.keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])
logits = [np.array(model(images.astype(kind))) for kind in ("uint8", "float32", "int64")]
assert all(np.array_equal(logits[0], other) for other in logits)
np.save(sys.argv[3], logits[0])
"""
    out = tmp_path / "logits.npy"
    run("-c", app, folder / "model.keras", tmp_path / "images.npy", out)
    model = keras.saving.load_model(folder / "model.keras")
    assert getattr(model, "optimizer", None) is None
    np.testing.assert_array_equal(np.load(out), np.array(model(arrays["x_test"])))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(trained, npz, tmp_path):
    folder, _ = trained
    command("train", *SMALL, "--data", npz, "--epoch", 2, "--out", tmp_path / "again")
    same_weights(folder, only_run(tmp_path / "again"))


def same_weights(one, other):
    models = [keras.saving.load_model(folder / "model.keras") for folder in (one, other)]
    for a, b in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(trained, npz, tmp_path):
    folder, _ = trained
    out = tmp_path / "killed"
    process = start("train.py", *SMALL, "--data", npz, "--epoch", 2, "--out", out)
    wait_for(lambda: list(out.glob("*/checkpoint.npz")))
    process.kill()
    process.communicate()
    killed = only_run(out)
    assert len(history(killed)) in (1, 2)  # 2 on a machine that is faster than this test
    keras.saving.load_model(killed / "model.keras")
    assert json.loads((killed / "report.json").read_text())["status"] == "running"
    (killed / ".partial-model.keras").write_bytes(b"as if killed while writing")
    training.resume(killed)
    assert {file.name for file in killed.iterdir()} == FILES
    same_weights(folder, killed)
    for row, expected in zip(history(killed), history(folder), strict=True):
        assert row | {"seconds": 0} == expected | {"seconds": 0}


class Killed(BaseException):
    pass


class Kill(keras.callbacks.Callback):
    """Ends a run in its second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise Killed


def killed_and_resumed(run, folder, before_resume=lambda: None):
    """Call `run(out=...)` to the end, and again until `Kill`, and resume the killed run.

    Returns the folders of both runs, which have the same weights.
    """
    whole = run(out=folder / "whole")
    with pytest.raises(Killed):
        run(out=folder / "killed", callbacks=[Kill()])
    before_resume()
    killed = only_run(folder / "killed")
    training.resume(killed)
    same_weights(whole, killed)
    return whole, killed


def test_the_model_is_the_moving_average_and_survives_a_kill(small, npz, tmp_path):
    """The recipe of Tiniest, in process: averaged weights, soft labels, whole batches only."""
    averaging = replace(recipes.RECIPES["tiniest"], ema=0.5)
    steps, checkpoints = [], {}

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append([weight.numpy() for weight in self.model.trainable_weights])

        def on_epoch_end(self, epoch, logs=None):
            checkpoints[epoch] = {file: file.read_bytes() for file in only_run(tmp_path).iterdir()}

    folder = train(npz, averaging, 2, 10, True, tmp_path, model=small, callbacks=[Watch()])
    assert len(steps) == 2 * (48 // 10)
    averages = steps[0]
    for weights in steps[1:]:
        averages = [(a + w) / 2 for a, w in zip(averages, weights, strict=True)]
    model = keras.saving.load_model(folder / "model.keras")
    for weight, average in zip(model.trainable_weights, averages, strict=True):
        np.testing.assert_allclose(weight.numpy(), average, rtol=1e-5, atol=1e-7)

    first = shutil.copytree(folder, tmp_path.with_name("first"))
    for file in folder.iterdir():
        file.unlink()
    for file, content in checkpoints[0].items():
        file.write_bytes(content)
    training.resume(folder)
    same_weights(folder, first)


@pytest.mark.slow
def test_a_recipe_trains_with_its_own_dropout_and_the_model_keeps_it(npz, tmp_path):
    def rates(net):
        return {x.rate for x in net.layers if isinstance(x, keras.layers.Dropout)}

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            trained.append(rates(self.model))

    trained: list[set] = []
    for recipe, rate in (("muon", 0.0), ("cifar10_tiny", 0.5)):
        folder = train(npz, recipe, 1, 48, False, tmp_path, callbacks=[Watch()], fast=False)
        assert rates(keras.saving.load_model(folder / "model.keras")) == {rate}
    assert trained == [{0.0}, {0.5}]


def test_muon_is_for_the_kernels_of_dense_layers_but_the_head():
    net = create_model("cifar10_tiny_half")
    optimizer = optimizers.build(recipes.get("muon"), steps=100)
    optimizer.build(net.trainable_variables)
    pairs = zip(net.trainable_variables, optimizer.adam_velocities, strict=True)
    names = {variable.path for variable, velocity in pairs if velocity is None}
    layers = [layer for layer in net.layers if isinstance(layer, keras.layers.Dense)]
    assert names == {layer.kernel.path for layer in layers} - {"head_dense/kernel"}


@pytest.mark.slow
def test_muon_conv_makes_the_update_of_a_convolution_orthogonal():
    """Every singular value of a kernel's update, as a matrix, is near the same number."""
    net = create_model("resnet20")
    recipe = replace(recipes.get("muon"), optimizer="muon_conv", warmup=0, weight_decay=0)
    optimizer = optimizers.build(recipe, steps=100)
    kernels = {f"{x.name}/kernel" for x in net.layers if isinstance(x, keras.layers.Conv2D)}
    before = {v.path: v.numpy() for v in net.trainable_variables}
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(v.shape, np.float32) for v in net.trainable_variables]
    optimizer.apply(gradients, net.trainable_variables)
    pairs = zip(net.trainable_variables, optimizer.adam_velocities, strict=True)
    assert {v.path for v, velocity in pairs if velocity is None} == kernels
    for variable in net.trainable_variables:
        if variable.path in kernels:
            update = (before[variable.path] - variable.numpy()).reshape(-1, variable.shape[-1])
            expected = recipe.learning_rate * 0.2 * max(update.shape) ** 0.5
            values = np.linalg.svd(update, compute_uv=False) / expected
            assert values.min() > 0.5 and values.max() < 1.5  # five steps of Newton and Schulz


@pytest.mark.slow
def test_a_killed_run_by_muon_resumes_with_the_recipe_of_its_report(small, npz, tmp_path):
    mine = replace(recipes.RECIPES["muon"], name="mine")
    folders = killed_and_resumed(partial(train, npz, mine, 2, 16, True, model=small), tmp_path)
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    assert reports[0]["recipe"] == reports[1]["recipe"]


@pytest.mark.slow
def test_a_run_is_found_from_another_folder_and_after_a_move(small, npz, tmp_path, monkeypatch):
    here, other = tmp_path / "here", tmp_path / "other"
    (here / "data").mkdir(parents=True)
    other.mkdir()
    shutil.copy(npz, here / "data")
    shutil.copy(small, here / "model.keras")
    monkeypatch.chdir(here)
    tuned = train("data/colours.npz", "finetune", 1, 48, False, "runs", model="model.keras")
    folder = tuned.absolute()
    facts = json.loads((folder / "report.json").read_text())
    assert facts["run"]["data"] == str(here / "data/colours.npz")
    model = str(here / "model.keras")
    assert facts["run"]["model"] == facts["started_from"]["file"] == model

    monkeypatch.chdir(other)
    training.resume(folder, epochs=2)
    moved = here.rename(tmp_path / "moved")
    folder = moved / "runs" / folder.name
    evaluated(folder)
    training.resume(folder, epochs=3)
    facts = json.loads((folder / "report.json").read_text())
    assert facts["run"]["data"] == str(moved / "data/colours.npz")
    assert facts["folder"] == str(folder)

    old = shutil.copytree(folder, tmp_path / "old")  # as reports were written before
    facts["run"]["data"] = "data/colours.npz"
    del facts["folder"]
    (old / "report.json").write_text(json.dumps(facts))
    gone = f"{old / 'report.json'} names the data data/colours.npz, which do not exist in {other}"
    refused(old, f"{gone}; move them back there.")
    monkeypatch.chdir(moved)
    evaluated(old)

    (moved / "data/colours.npz").unlink()
    gone = (
        f"{folder / 'report.json'} names the data {moved / 'data/colours.npz'}, which do not exist"
    )
    refused(folder, f"{gone}; move them back there.")


def refused(folder, sentence):
    for call in (training.resume, evaluated):
        with pytest.raises(InputError) as error:
            call(folder)
        assert str(error.value) == sentence


def evaluated(folder):
    args = cli.parse(["evaluate", str(folder / "model.keras")])
    args.main(args)


@pytest.mark.slow
def test_fine_tuning_replaces_the_head_and_freeze_trains_it_alone(trained, folder, tmp_path):
    model = trained[0] / "model.keras"
    shutil.rmtree(folder / "blue")
    arguments = ("--model", model, "--freeze", "--data", folder, "--epoch", 4, "--batch", 4)
    printed, _ = command("train", *arguments, "--out", tmp_path / "runs")
    assert "a new head for these 2 classes, because the model has other classes" in printed
    tuned = only_run(tmp_path / "runs")
    assert tuned.name.endswith("-cifar10_tiny_half-photos")
    report = json.loads((tuned / "report.json").read_text())
    assert report["recipe"]["name"] == "finetune"
    parent = report["started_from"]
    assert parent["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert parent["epochs"] == 2
    assert parent["run"] == json.loads((trained[0] / "report.json").read_text())["run"]
    before, after = (keras.saving.load_model(f / "model.keras") for f in (trained[0], tuned))
    assert after.output_shape == (None, 2) and after.layers[-1].name == "head_dense"
    for old, new in zip(before.weights[:-2], after.weights[:-2], strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy(), err_msg=old.path)
    assert all(layer.trainable for layer in after.layers)
    command("train", "--resume", tuned, "--epoch", 5)
    assert len(history(tuned)) == 5
    assert json.loads((tuned / "report.json").read_text())["started_from"] == parent


@pytest.mark.parametrize("classes", ["the same", "others", "unknown"])
def test_fine_tuning_starts_from_the_weights_and_from_the_head_of_the_same_classes(
    classes, small_run, npz, tmp_path
):
    model = small_run / "model.keras"
    if classes == "others":
        with np.load(npz) as file:
            arrays = dict(file) | {"class_names": ["cat", "dog", "eel"]}
        npz = tmp_path / "other.npz"
        np.savez(npz, **arrays)
    if classes == "unknown":
        model = Path(shutil.copy(model, tmp_path))
    still = replace(recipes.RECIPES["finetune"], learning_rate=1e-9)
    tuned = train(npz, still, 1, 48, False, tmp_path / "runs", model=model)
    models = (keras.saving.load_model(file) for file in (model, tuned / "model.keras"))
    before, after = (model.trainable_weights for model in models)
    assert len(before) == len(after)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        expected = old.numpy()
        if classes != "the same" and index >= len(before) - 2:
            expected = np.zeros_like(expected)
        np.testing.assert_allclose(new.numpy(), expected, atol=1e-6, err_msg=old.path)


@pytest.mark.slow
def test_averaged_weights_get_batch_statistics_of_their_own(small, npz, tmp_path, monkeypatch):
    slow = replace(recipes.RECIPES["tiniest"], augment=())
    with np.load(npz) as file:
        images = file["x_train"]

    def statistics_off(stale, out):
        """How far the first batch norm's running mean is off, in standard deviations."""
        monkeypatch.setattr(trainer, "STALE", stale)
        folder = train(npz, slow, 4, 16, True, out, model=small)
        model = keras.saving.load_model(folder / "model.keras")
        convolved = np.array(keras.Model(model.input, model.get_layer("stem_conv").output)(images))
        mean = model.get_layer("stem_norm").moving_mean.numpy()
        return np.abs((mean - convolved.mean((0, 1, 2))) / convolved.std((0, 1, 2))).max()

    assert statistics_off(0.01, tmp_path / "renewed") < 0.03
    assert statistics_off(1.0, tmp_path / "left") > 0.1


def test_a_model_of_ones_own_can_be_fine_tuned(npz, tmp_path):
    source = tmp_path / "mine.keras"
    layers = (keras.layers.Flatten(), keras.layers.Dense(9), keras.layers.Dense(2))
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(source)
    tuned = train(npz, "finetune", 1, 16, False, tmp_path, model=source)
    assert keras.saving.load_model(tuned / "model.keras").output_shape == (None, 3)


def test_a_run_folder_is_a_model_to_start_from_and_a_folder_named_like_a_net_is_none(
    small_run, npz, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(training, "start", lambda run, *others: started.append(run))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet20").mkdir()
    for model in (small_run, "resnet20"):
        train(npz, None, 1, 16, False, tmp_path, model=model)
    assert [run.model for run in started] == [str(small_run / "model.keras"), "resnet20"]
    assert [run.recipe.name for run in started] == ["finetune", "resnet"]


@pytest.mark.parametrize("recipe", ["finetune", "tiniest"])  # the latter averages the weights
def test_frozen_batch_statistics_stay(recipe, small, npz, tmp_path):
    tuned = train(npz, recipe, 1, 16, False, tmp_path, model=small, freeze=True)
    before, after = (keras.saving.load_model(f) for f in (small, tuned / "model.keras"))
    for old, new in zip(before.weights[:-2], after.weights[:-2], strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy(), err_msg=old.path)
    assert np.any(before.weights[-1].numpy() != after.weights[-1].numpy())


@pytest.mark.slow
def test_ctrl_c_saves_and_reports(npz, tmp_path):
    process = start("train.py", *SMALL, "--data", npz, "--epoch", 1000, "--out", tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/history.csv")))
    process.send_signal(signal.SIGINT)
    printed, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    folder = only_run(tmp_path)
    assert {file.name for file in folder.iterdir()} == FILES
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert 1 <= report["epochs"] == len(history(folder)) < 1000
    assert "Stopping after this batch" in printed and "of 1000 epochs, interrupted" in printed


def test_a_holdout_is_validated_on_instead_of_the_test_images(small, npz, tmp_path):
    folder = train(npz, "cifar10_tiny", 1, 16, False, tmp_path, model=small, holdout=12)
    report = json.loads((folder / "report.json").read_text())
    assert report["images"] == {"train": 36, "holdout": 12, "test": 24}
    assert report["validation"] == "holdout" and report["test"]["images"] == 24


def test_a_wrong_twin_is_reported_once(small, npz, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(proof, "fault", lambda *arguments: "is odd")
    train(npz, "cifar10_tiny", 1, 16, False, tmp_path, model=small)
    assert capsys.readouterr().err.count("runs layer by layer") == 1


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [False, True])
def test_training_learns_colours(mixed, npz, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "has_bfloat16", lambda: False)
    folder = train(npz, "digits", 12, 4, True, tmp_path, mixed=mixed)
    report = json.loads((folder / "report.json").read_text())
    assert report["test"]["accuracy"] > 0.9
    assert ("--mixed trains more slowly" in capsys.readouterr().err) == mixed
    rates = [float(row["learning_rate"]) for row in history(folder)]
    assert rates[0] > 0.5 * max(rates) and rates[-1] < 0.01 * max(rates)
    model = keras.saving.load_model(folder / "model.keras")
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


@pytest.mark.parametrize("batch_size", [16, 48])  # the bad step comes early, or last in its epoch
def test_a_diverging_run_keeps_the_epochs_before(batch_size, small, npz, tmp_path):
    class Wild(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = 1e30

    with pytest.raises(InputError, match=r"The loss became (nan|inf) in epoch 2; .* 1 epoch"):
        train(npz, "cifar10_tiny", 3, batch_size, False, tmp_path, small, callbacks=[Wild()])
    folder = only_run(tmp_path)
    assert json.loads((folder / "report.json").read_text())["status"] == "diverged"
    assert [row["epoch"] for row in history(folder)] == ["1"]
    with np.load(folder / CHECKPOINT) as checkpoint:
        assert checkpoint["epochs"] == 1
    for weight in keras.saving.load_model(folder / "model.keras").weights:
        assert np.isfinite(weight.numpy()).all()


def spoil(folder, name, content):
    (folder / name).write_bytes(content)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_report(folder, part, **changes):
    facts = json.loads((folder / "report.json").read_text())
    facts[part] |= changes
    (folder / "report.json").write_text(json.dumps(facts))


SPOILT = {
    "empty folder": (lambda f: [file.unlink() for file in f.iterdir()], "has no report.json"),
    "no complete epoch": (lambda f: (f / "history.csv").unlink(), "has no history.csv"),
    "no checkpoint": (
        lambda f: (f / CHECKPOINT).unlink(),
        "has no checkpoint.npz to go on from; start a new run from its model: --model ",
    ),
    "report cut short": (lambda f: spoil(f, "report.json", b'{"run": '), "is not a run folder"),
    "report of another": (lambda f: spoil(f, "report.json", b"{}"), "is not a run folder"),
    "checkpoint cut short": (
        lambda f: spoil(f, CHECKPOINT, (f / CHECKPOINT).read_bytes()[:5000]),
        "cannot be read as this run's checkpoint",
    ),
    "one bit of the checkpoint": (
        lambda f: flip_a_bit(f / CHECKPOINT),
        "cannot be read as this run's checkpoint",
    ),
    "other checkpoint": (
        lambda f: np.savez(f / CHECKPOINT, epochs=2, **{"head_dense/bias": np.zeros(3)}),
        "cannot be read as this run's checkpoint",
    ),
    "data grown": (
        lambda f: spoil(
            f,
            "report.json",
            (f / "report.json").read_bytes().replace(b'"train": 48', b'"train": 9'),
        ),
        "images when",
    ),
    "other classes": (
        lambda f: spoil(
            f, "report.json", (f / "report.json").read_bytes().replace(b'"green"', b'"grey"', 1)
        ),
        "had other classes when",
    ),
    "no epoch": (lambda f: spoil(f, "history.csv", b"epoch,loss\n"), "is not a run folder"),
    "data gone": (
        lambda f: spoil(
            f,
            "report.json",
            (f / "report.json").read_bytes().replace(b"colours.npz", b"gone.npz"),
        ),
        "gone.npz, which do not exist; move them back there.",
    ),
    "a recipe of a newer version": (
        lambda f: change_report(f, "recipe", cutmax=0.5),
        "has 'cutmax' in its recipe, which tinyconv",
    ),
    "half a seed": (
        lambda f: change_report(f, "run", seed=0.5),
        "The seed is 0.5; it must be a whole number.",
    ),
    "a batch size of another type": (
        lambda f: change_report(f, "run", batch_size=16.0),
        "The batch size is 16.0; it must be a whole number.",
    ),
    "a run of a newer version": (
        lambda f: change_report(f, "run", pruning=0.5),
        "has 'pruning' in its run, which tinyconv",
    ),
    "an unknown optimizer": (
        lambda f: change_report(f, "recipe", optimizer="muonn"),
        "Unknown optimizer 'muonn': did you mean 'muon'?",
    ),
    "an unknown augmentation": (
        lambda f: change_report(f, "recipe", augment=["flop"]),
        "Unknown augmentation 'flop': did you mean 'flip'?",
    ),
    "text for a number": (
        lambda f: change_report(f, "recipe", learning_rate="0.1"),
        "The learning_rate of recipe 'cifar10_tiny' is '0.1'; it must be a number.",
    ),
    "a recipe of another type": (
        lambda f: change_report(f, "recipe", augment=None),
        "is not a run folder",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_cannot_be_resumed_says_why(case, small_run, tmp_path):
    action, sentence = SPOILT[case]
    folder = shutil.copytree(small_run, tmp_path / "run")
    action(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(InputError) as error:
        training.resume(folder)
    assert sentence in str(error.value)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("optimizer", "muonn", "Unknown optimizer 'muonn': did you mean 'muon'?"),
        ("epochs", 0, "a whole number above 0"),
        ("batch_size", 2.5, "a whole number above 0"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("initial_learning_rate", -1.0, "0 or more"),
        ("final_learning_rate", -0.1, "0 or more"),
        ("warmup", 1.5, "0 to 1"),
        ("weight_decay", -0.1, "0 or more"),
        ("ema", 1.0, "0 or more and below 1"),
        ("mixup", 1.1, "0 to 1"),
        ("dropout", 1.0, "0 or more and below 1"),
    ],
)
def test_a_recipe_is_refused_that_makes_no_sense(field, value, words):
    with pytest.raises(InputError) as error:
        replace(recipes.RECIPES["muon"], **{field: value})
    if field != "optimizer":
        words = f"The {field} of recipe 'muon' is {value}; it must be {words}."
    assert str(error.value) == words


def test_an_unknown_augmentation_is_refused_before_a_folder_is_made(npz, tmp_path):
    recipe = replace(recipes.RECIPES["muon"], augment=("crop", "flop"))
    with pytest.raises(InputError, match="Unknown augmentation 'flop': did you mean 'flip'"):
        train(npz, recipe, 1, 16, True, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_costs_one_epoch(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    checkpoint = (folder / CHECKPOINT).read_bytes()
    full = """
import resource, sys
from tinyconv import cli
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cli.main(["train", *sys.argv[1:]])
"""
    longer = ("--resume", folder, "--epoch", 3)
    _, err = run("-c", full, len(checkpoint) - 4096, *longer, status=2)
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"Cannot write {folder / CHECKPOINT} (File too large)" in line
    assert "Traceback" not in err and "Exception" not in err
    assert (folder / CHECKPOINT).read_bytes() == checkpoint
    assert {file.name for file in folder.iterdir()} == FILES
    run("train.py", *longer)  # a finished run is made longer
    assert [row["epoch"] for row in history(folder)] == ["1", "2", "3"]


def test_hosts_compare_everything_that_makes_a_run_and_end_if_it_differs(
    small_run, npz, tmp_path, monkeypatch
):
    told = []

    class Several(training.Devices):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.hosts = 2

        def agree(self, what):
            told.append(what)
            return False

    monkeypatch.setattr(training, "Devices", Several)

    def told_by(call, *arguments):
        with pytest.raises(InputError, match="The hosts differ in their arguments, models or data"):
            call(*arguments)
        return told.pop()

    def changed(name, **arrays):
        with np.load(npz) as file:
            np.savez(tmp_path / name, **(dict(file) | arrays))
        monkeypatch.chdir(tmp_path)
        shutil.move(name, "colours.npz")
        return Run(
            model="cifar10_tiny_half",
            data="colours.npz",
            recipe=recipes.RECIPES["muon"],
            epochs=1,
            batch_size=8,
            augment=True,
        )

    labels = np.load(npz)["y_train"]
    run = changed("same.npz")
    same = told_by(training.start, run, tmp_path)
    assert same == told_by(training.start, run, tmp_path)
    assert same != told_by(training.start, replace(run, seed=1), tmp_path)
    assert same != told_by(training.start, changed("labels.npz", y_train=labels[::-1]), tmp_path)
    names = ["red", "green", "BLUE"]
    assert same != told_by(training.start, changed("names.npz", class_names=names), tmp_path)

    model = Path(shutil.copy(small_run / "model.keras", tmp_path))
    finetune = recipes.RECIPES["finetune"]
    run = replace(changed("again.npz"), model=str(model), recipe=finetune)
    same = told_by(training.start, run, tmp_path)
    net = keras.saving.load_model(model)
    net.weights[0].assign(net.weights[0] + 1)
    net.save(model)
    assert same != told_by(training.start, run, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    told_by(training.resume, small_run)


def test_a_run_cannot_be_made_shorter(small_run, tmp_path):
    folder = shutil.copytree(small_run, tmp_path / "run")
    with pytest.raises(InputError, match=r"has 2 epochs, more than 1\."):
        training.resume(folder, epochs=1)


TWO_DEVICES = """
import sys, keras, numpy as np
backend, model, npz, out, count = sys.argv[1:]
if backend == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from dataclasses import replace
from tinyconv import recipes
from tinyconv.training.train import train

recipe = replace(recipes.RECIPES["tiniest"], learning_rate=0.001, augment=("crop", "flip"))

class Watch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        for variable in self.model.variables:
            if backend == "tensorflow" and count == "2":
                copies = variable.value.values
            else:
                copies = [shard.data for shard in getattr(variable.value, "addressable_shards", [])]
            for copy in copies[1:]:
                np.testing.assert_array_equal(copy, copies[0], err_msg=variable.path)
            assert len(copies) == int(count) or count == "1"

options = dict(epochs=2, batch_size=24, augment=True, devices=int(count), fast=False)
train(model, npz, recipe=recipe, out=out, callbacks=[Watch()], **options)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_train_as_one(backend, small, npz, tmp_path):
    """On two logical CPUs, batch statistics, mixup and averaged weights included."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    environment["KERAS_BACKEND"] = backend
    processes = [
        start("-c", TWO_DEVICES, backend, small, npz, tmp_path / str(count), count, **environment)
        for count in (1, 2)
    ]
    losses = []
    for count, process in enumerate(processes, start=1):
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err[-3000:]
        folder = only_run(tmp_path / str(count))
        facts = json.loads((folder / "report.json").read_text())
        assert facts["devices"] == {"kind": "cpu", "count": count, "hosts": 1}
        model = keras.saving.load_model(folder / "model.keras")
        again = report.evaluate(model, data.load(str(npz), (32, 32)).test)
        assert again.loss == pytest.approx(facts["test"]["loss"], rel=1e-4)
        losses.append([float(row[key]) for row in history(folder) for key in ("loss", "val_loss")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
def test_no_network_and_no_cifar10_is_one_sentence(tmp_path):
    nowhere = "http://127.0.0.1:9"
    offline = {"TFDS_DATA_DIR": str(tmp_path / "none"), "https_proxy": nowhere}
    offline |= {"HTTPS_PROXY": nowhere, "no_proxy": "", "NO_PROXY": ""}
    _, err = run("train.py", "--out", tmp_path, status=2, **offline)
    (sentence,) = [line for line in err.splitlines() if line.startswith("error:")]
    for name in ("--data digits", "--data FOLDER", "--data FILE.npz", "TFDS_DATA_DIR"):
        assert name in sentence
    assert "Traceback" not in err and list(tmp_path.iterdir()) == []


def test_help_is_quick_to_import():
    printed, _ = run("train.py", "--help")
    assert "--epoch" in printed
    run("-c", "import sys, train, timing; assert 'keras' not in sys.modules")
