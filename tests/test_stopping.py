"""Early stopping, and the model of the best epoch."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import command
from test_training import Kill, Killed, history, only_run, same_weights, train

from tinyconv import data, hub_card, recipes, report
from tinyconv.errors import InputError
from tinyconv.training import stopping, trainer
from tinyconv.training import train as training
from tinyconv.training.run import Run

RECIPE = replace(recipes.RECIPES["digits"], learning_rate=0.05, augment=())
RUN = Run(model="tiniest", data="d", recipe=RECIPE, epochs=20, batch_size=8, augment=False)
OPTIONS = {"holdout": 12, "early_stop": 3, "keep": "best"}


def accuracies(folder):
    return [float(row["val_accuracy"]) for row in history(folder)]


def facts(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_it_stops_when_keras_does(patience):
    rng, stopped = random.Random(patience), 0
    for _ in range(100):
        callback = keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=patience)
        callback.set_model(SimpleNamespace(stop_training=False))
        callback.on_train_begin()
        rows = []
        run = replace(RUN, early_stop=patience, keep="best")
        for epoch in range(20):
            rows.append({"epoch": epoch + 1, "val_accuracy": rng.randrange(12) / 12, "val_loss": 1})
            callback.on_epoch_end(epoch, rows[-1])
            assert stopping.is_over(run, rows) == callback.model.stop_training
            assert stopping.best(rows) == callback.best_epoch + 1
            if callback.model.stop_training:
                stopped += 1
                break
    assert stopped > 50


def test_among_equal_accuracies_the_lowest_loss_is_the_best():
    pairs = [(0.5, 1), (0.9, 3), (0.9, 2), (0.9, 2), (0.8, 1)]
    assert stopping.best([{"val_accuracy": a, "val_loss": b} for a, b in pairs]) == 3


class Spoil(keras.callbacks.Callback):
    """From the fourth epoch on, each epoch starts with a head of large random weights."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= 3:
            kernel = self.model.layers[-1].kernel
            kernel.assign(np.random.default_rng(epoch).normal(0, 100, kernel.shape))


@pytest.fixture(scope="module")
def stopped(small, npz, tmp_path_factory):
    out = tmp_path_factory.mktemp("stopped")
    return train(npz, RECIPE, 20, 16, False, out, model=small, callbacks=[Spoil()], **OPTIONS)


def test_the_report_says_which_epoch_was_kept_and_why_it_stopped(stopped, npz):
    found, reached = facts(stopped), accuracies(stopped)
    best = stopping.best([{k: float(v) for k, v in row.items()} for row in history(stopped)])
    assert reached[best - 1] == max(reached)
    assert found["status"] == "complete" and len(reached) == best + 3 < 20
    assert (found["kept_epoch"], found["epochs"]) == (best, best + 3)
    assert 1 < best < 4
    why = f"the validation did not improve in the 3 epochs after epoch {best}"
    assert found["stopped"] == why
    text = (stopped / "report.txt").read_text()
    assert f"{best + 3} of 20 epochs, complete\nkept epoch {best}; stopped because {why}" in text
    model = keras.saving.load_model(stopped / "model.keras")
    held = data.load(str(npz), (32, 32), 12, 0).holdout
    assert report.evaluate(model, held).accuracy == pytest.approx(max(reached), rel=1e-5)
    card = hub_card.page(hub_card.read(stopped))
    assert (
        f"The model is that of epoch {best}, whose accuracy was the highest. The training" in card
    )
    assert f"The training stopped because {why}." in card
    assert reached[-1] < max(reached)  # the last epoch is another model


def test_a_killed_run_stops_at_the_same_epoch_with_the_same_model(stopped, small, npz, tmp_path):
    best = facts(stopped)["kept_epoch"]
    for after in {1, best, best + 2}:

        class KillAfter(Kill):
            def on_epoch_begin(self, epoch, logs=None, last=after):
                super().on_epoch_begin(int(epoch == last))

        out = tmp_path / str(after)
        options = {"model": small, "callbacks": [Spoil(), KillAfter()], **OPTIONS}
        with pytest.raises(Killed):
            train(npz, RECIPE, 20, 16, False, out, **options)
        killed = only_run(out)
        assert len(history(killed)) == after
        training.resume(killed, callbacks=[Spoil()])
        same_weights(stopped, killed)
        assert accuracies(killed) == accuracies(stopped)
        for name in ("kept_epoch", "stopped", "run", "test"):
            assert facts(killed)[name] == facts(stopped)[name]


def test_a_stopped_run_trains_no_epoch_more(stopped):
    before = facts(stopped), (stopped / "checkpoint.npz").read_bytes()
    training.resume(stopped, 30)
    assert len(history(stopped)) == before[0]["epochs"]
    assert (stopped / "checkpoint.npz").read_bytes() == before[1]
    assert facts(stopped)["test"] == before[0]["test"]


def test_the_model_on_disk_is_always_the_best_so_far(small, npz, tmp_path):
    found = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            model = keras.saving.load_model(only_run(tmp_path) / "model.keras")
            held = data.load(str(npz), (32, 32), 12, 0).holdout
            found.append(report.evaluate(model, held).accuracy)

    options = {"model": small, "callbacks": [Spoil(), Watch()], "holdout": 12, "keep": "best"}
    folder = train(npz, RECIPE, 6, 16, False, tmp_path, **options)
    best = np.maximum.accumulate(accuracies(folder))
    assert found == pytest.approx(best.tolist(), rel=1e-5)
    assert facts(folder)["stopped"] == "all 6 epochs are done"


def test_without_the_flags_the_last_epoch_is_kept(small, npz, tmp_path):
    folder = train(npz, RECIPE, 2, 16, False, tmp_path, model=small)
    assert facts(folder)["kept_epoch"] == 2
    assert "kept epoch" not in (folder / "report.txt").read_text()


def test_an_interrupted_run_keeps_the_best_epoch(small, npz, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training |= len(self.model.history.epoch) == 4

    for name, keep, kept in (("last", "last", None), ("best", "best", (1, 2, 3))):
        options = OPTIONS | {"keep": keep, "early_stop": 9, "model": small}
        options["callbacks"] = [Spoil(), Stop()]
        folder = train(npz, RECIPE, 20, 16, False, tmp_path / name, **options)
        found = facts(folder)
        assert found["status"] == "interrupted" and found["epochs"] == 4
        assert found["kept_epoch"] in (kept or (None,))
        text = (folder / "report.txt").read_text()
        assert "stopped because a signal or a callback ended the training" in text
        assert ("kept epoch" in text) == (keep == "best")


def test_the_command_takes_both_flags_and_a_val_split(small, folder, tmp_path):
    for part in ("train", "val", "test"):
        for path in sorted(folder.glob("*/*.png")):
            (tmp_path / "split" / part / path.parent.name).mkdir(parents=True, exist_ok=True)
            if int(path.stem) // 3 % 3 == ("train", "val", "test").index(part):
                target = tmp_path / "split" / part / path.parent.name / path.name
                target.write_bytes(path.read_bytes())
    flags = ("--early-stop", 1, "--keep", "best", "--epoch", 2, "--out", tmp_path / "runs")
    command("train", "--model", small, "--data", tmp_path / "split", *flags)
    run = facts(only_run(tmp_path / "runs"))["run"]
    assert (run["early_stop"], run["keep"]) == (1, "best")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--keep", "best"), "--keep best must not choose by the test images, on which the model"),
        (("--early-stop", "2"), "--early-stop must not choose by the test images, on which"),
        (("--early-stop", "0"), "The patience of --early-stop is 0; it must be 1 to 1,000,000."),
        (("--keep", "bets"), "Unknown epoch to keep 'bets': did you mean 'best'?"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(flags, sentence, small, npz, tmp_path):
    given = ("--model", small, "--data", npz, "--out", tmp_path / "runs")
    _, said = command("train", *given, *flags, status=2)
    assert sentence in said and len(said.splitlines()) == 1
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_val_split_that_is_the_test_is_not_for_choosing_and_hosts_do_not_stop():
    dataset = SimpleNamespace(holdout=None, test_name="val")
    with pytest.raises(InputError, match="must not choose by the val images"):
        stopping.check(replace(RUN, keep="best"), dataset, SimpleNamespace(hosts=1))
    dataset.holdout = ()
    stopping.check(replace(RUN, keep="best"), dataset, SimpleNamespace(hosts=2))
    with pytest.raises(InputError, match="--early-stop is for one machine"):
        stopping.check(replace(RUN, early_stop=1), dataset, SimpleNamespace(hosts=2))


def test_weights_with_the_same_path_have_names_of_their_own():
    """Models that were loaded may have several layers of the same name, in nested models."""
    layers = [keras.layers.Dense(2, name="dense") for _ in range(2)]
    for layer in layers:
        layer.build((None, 2))
    weights = [weight for layer in layers for weight in layer.weights]
    assert len({weight.path for weight in weights}) == 2
    named = trainer._named(weights)
    assert [id(weight) for weight in named.values()] == [id(weight) for weight in weights]
