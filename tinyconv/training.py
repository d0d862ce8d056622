"""Recipe + net + data + devices -> a run folder."""

import csv
import io
import json
import math
import os
import random
import signal
import statistics
import sys
import threading
import time
import zlib
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyconv import data, plots, recipes, registry, report, runs, terminal
from tinyconv.atomic import check_writable, remove_partial, replacing, write_text
from tinyconv.augment import Augmentation, Mixup
from tinyconv.devices import Devices, machine
from tinyconv.errors import InputError
from tinyconv.fast.twin import twin
from tinyconv.graph import Graph, source
from tinyconv.hosts import LOST, Hosts
from tinyconv.recipes import Recipe
from tinyconv.runs import Run
from tinyconv.saving import save_model
from tinyconv.trained import Trained, open_model, origin

CHECKPOINT = "checkpoint.npz"
STALE = 0.01  # how much of a batch norm's statistics may be from before the weights were averaged


def train(run: Run, out: Path = Path("models"), hosts: Hosts | None = None) -> Path:
    """Start a training and return its new run folder under `out`.

    With several `hosts`, each of which calls this, the first alone writes.

    The folder holds `model.keras`, `history.csv`, `report.json`, `report.txt`, `curves.png`,
    `confusion.png` and, to resume from, `checkpoint.npz`; each is whole at any moment.
    Ctrl-C ends the training after the current batch, and the model is still saved and reported on.

    Raises:
        InputError: something that `run` names is not there or does not fit, or `out` cannot be
            written.
    """
    recipe = recipes.find(run.recipe)
    runs.check_recipe(recipe)
    if not hosts or hosts.index == 0:
        check_writable(out)
    devices = Devices(run.tpu, run.devices, hosts)
    trained = open_model(run.model) if run.model.endswith(".keras") else None
    started_from = origin(Path(run.model)) if trained else None
    dataset = _load(run, recipe, trained and trained.model, devices)
    start = _with_head(trained, dataset.class_names, run.model) if trained else None
    _check_agreement(run, recipe, start, dataset, devices)
    name = start.name if start else run.model
    folder = out / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{dataset.name}"
    if devices.rank == 0:
        folder = _new_folder(folder)
    model = str(Path(run.model).absolute()) if trained else run.model
    run = replace(run, data=runs.absolute(run.data), model=model)
    return _Training(run, recipe, start, dataset, devices, folder, started_from).go(history=[])


def resume(folder: Path, epochs: int | None = None, hosts: Hosts | None = None) -> Path:
    """Go on with a run that was interrupted, from its last complete epoch.

    Args:
        folder: the run folder, which each of several `hosts` must see.
        epochs: train to this many epochs in all. Default: as the run was started.

    Raises:
        InputError: `folder` is not a run folder, or its data are no longer there.
    """
    stored = runs.read(folder)
    run, recipe, facts = stored.run, stored.recipe, stored.facts
    runs.check_recipe(recipe)
    if epochs is not None:
        run = replace(run, epochs=epochs)
    located = runs.locate(run.data, facts.get("folder"), folder)
    runs.check_data(located, folder)
    if not hosts or hosts.index == 0:
        check_writable(folder)
        remove_partial(folder)
    devices = Devices(run.tpu, run.devices, hosts)
    trained = registry.open_model(folder / "model.keras")
    dataset = _load(replace(run, data=located), recipe, trained, devices)
    _check_agreement(run, recipe, trained, dataset, devices)
    run = replace(run, data=runs.absolute(located))
    if facts["images"] != dataset.counts():
        raise InputError(
            f"{run.data} had {facts['images']} images when {folder} was started, and has "
            f"{dataset.counts()}."
        )
    if facts["classes"] != list(dataset.class_names):
        raise InputError(f"{run.data} had other classes when {folder} was started.")
    started_from = facts.get("started_from")
    return _Training(run, recipe, trained, dataset, devices, folder, started_from).go(
        stored.history
    )


def _load(run: Run, recipe: Recipe, trained: keras.Model | None, devices: Devices) -> data.Dataset:
    if trained:
        height, width, _ = trained.input_shape[1:]
    else:
        height, width = data.SIZES.get(run.data, registry.find(run.model).input_shape[:2])
    dataset = data.load(run.data, (height, width), run.holdout, run.seed, run.data_range)
    if _drops_remainder(recipe, devices) and len(dataset.train) < run.batch_size:
        raise InputError(
            f"The batch size is {run.batch_size}, but there are only {len(dataset.train)} "
            "training images and partial batches are dropped."
        )
    if run.batch_size % devices.count:
        raise InputError(
            f"The batch size is {run.batch_size}; on {devices.count} devices it must be a "
            f"multiple of {devices.count}."
        )
    return dataset


def _check_agreement(
    run: Run,
    recipe: Recipe,
    start: keras.Model | None,
    dataset: data.Dataset,
    devices: Devices,
) -> None:
    if devices.hosts == 1:
        return
    weights = start and [zlib.crc32(weight) for weight in start.get_weights()]
    labels = dataset.train.labels.tolist()
    started = (asdict(run), asdict(recipe), weights, dataset.class_names, dataset.counts(), labels)
    if not devices.agree(zlib.crc32(json.dumps(started).encode())):
        raise InputError("The hosts differ in their arguments, models or data.")


def _with_head(trained: Trained, names: tuple[str, ...], file: str) -> keras.Model:
    """The model, with a new head unless its own is known to be for these classes.

    Only a Dense layer at the end is replaced. A softmax in or after it is left out.
    """
    model = trained.model
    if trained.probabilities:
        model = _without_softmax(model, file)
        print(f"{file}: its softmax is left out, for a model is trained on its logits")
    call = source(model.output)  # of a layer that may be called elsewhere, too
    last = call.operation
    if trained.class_names == names:
        return model
    if not isinstance(last, keras.layers.Dense):
        if model.output_shape[-1] == len(names):
            print(f"{file}: its head is kept, for it ends in {type(last).__name__}, not in Dense")
            return model
        raise InputError(
            f"{file} tells {model.output_shape[-1]} classes apart, not {len(names)}, and ends in "
            f"{type(last).__name__}; only a Dense layer is replaced by a new head."
        )
    why = "it knows others" if trained.class_names else "nothing says what its own are"
    print(f"{file}: a new head for these {len(names)} classes, for {why}")
    # Zeros: wrong answers that are sure of themselves would undo what is below the head.
    head = keras.layers.Dense(
        len(names), kernel_initializer="zeros", dtype="float32", name="head_dense"
    )
    return keras.Model(model.inputs[0], head(call.input_tensors[0]), name=model.name)


def _without_softmax(model: keras.Model, file: str) -> keras.Model:
    """`model`, which puts out probabilities, up to its logits and with the same weights."""
    call = source(model.output)
    last = call.operation
    is_softmax = getattr(last, "activation", None) is keras.activations.softmax
    if isinstance(last, keras.layers.Dense):
        if is_softmax and Graph(model).calls[last] == 1:
            logits = keras.layers.Dense.from_config(last.get_config() | {"activation": None})
            changed = keras.Model(model.input, logits(call.input_tensors[0]), name=model.name)
            logits.set_weights(last.get_weights())
            return changed
    elif is_softmax or type(last).__name__ == "Softmax":  # a layer or an operation
        below = call.input_tensors[0]
        if isinstance(source(below).operation, keras.layers.Dense):
            return keras.Model(model.input, below, name=model.name)
    raise InputError(
        f"{file} puts out probabilities, and training needs logits; only a softmax in or right "
        "after a Dense layer at the end, called once, is left out, and the model ends in "
        f"{type(last).__name__}."
    )


def _drops_remainder(recipe: Recipe, devices: Devices) -> bool:
    return recipe.drop_remainder or devices.kind == "tpu" or devices.count > 1


def _new_folder(wanted: Path) -> Path:
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise InputError(f"{wanted} and 998 more folders like it are there; choose another --out.")


class _Training:
    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        trained: keras.Model | None,
        dataset: data.Dataset,
        devices: Devices,
        folder: Path,
        started_from: dict[str, Any] | None,
    ):
        self.run, self.dataset, self.devices, self.folder = run, dataset, devices, folder
        self.started_from, self.recipe = started_from, recipe
        self.batches = data.Batches(
            dataset.train,
            run.batch_size,
            seed=run.seed,
            drop_remainder=_drops_remainder(recipe, devices),
        )
        self.augment = run.augment and bool(self.recipe.augment)
        self.mixup = self.augment and self.recipe.mixup > 0
        random.seed(run.seed)  # Keras draws the seeds of layers and initializers from here
        kind = "Categorical" if self.mixup else "SparseCategorical"
        # Evaluated and saved: float32, averaged under EMA.
        self.net = trained or registry.create_model(
            run.model, len(dataset.class_names), dataset.train.images.shape[1:]
        )
        for layer in self.net.layers if self.recipe.dropout is not None else ():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = self.recipe.dropout
        with devices.scope():
            optimizer = recipes.optimizer(self.recipe, len(self.batches) * run.epochs)
            self.copy = devices.clone(self.net, run.mixed)
            for layer in self.copy.layers[:-1] if run.freeze else ():
                layer.trainable = False
            fast = run.fast and devices.can_fuse(run.mixed)
            self.model = twin(self.copy) if fast else self.copy
            fused = self.model is not self.copy
            self.judge = twin(self.net) if fused else self.net
            self.model.compile(
                optimizer=devices.optimizer(optimizer, run.mixed),
                loss=getattr(keras.losses, f"{kind}Crossentropy")(from_logits=True),
                metrics=[getattr(keras.metrics, f"{kind}Accuracy")(name="accuracy")],
                jit_compile=devices.jit_compile,
                steps_per_execution=devices.steps_per_execution(len(self.batches)),
            )

    def go(self, history: list[dict]) -> Path:
        done = self._restore(history) if history else 0
        history = history[:done]
        recorder = _Recorder(self, history)
        self._write_report({"status": "running", **self._facts(history)})
        callbacks = [_StartEpoch(self.batches, self.run.seed), recorder]
        if self.devices.hosts == 1:  # of several, one that stopped alone would leave the others
            callbacks.append(_StopOnSignal())
        print(f"{self.folder}: {self._title()}, epochs {done + 1} to {self.run.epochs}", flush=True)
        batches = data.feed(self.batches, self._augmentation(), self._share())
        try:
            with self.devices.fit_scope():
                self.model.fit(
                    batches,
                    initial_epoch=done,
                    epochs=self.run.epochs,
                    callbacks=callbacks,
                    shuffle=False,  # `Batches` does it
                    verbose=1 if terminal.bars() else 2,  # 2: one line an epoch
                )
        except (ValueError, RuntimeError) as error:
            if self.devices.hosts > 1 and any(name in str(error) for name in ("Gloo", "NCCL")):
                raise InputError(LOST) from error
            raise
        if recorder.diverged:
            self._write_report({"status": "diverged", **self._facts(history)})
            raise InputError(
                f"The loss became {recorder.diverged} in epoch {len(history) + 1}; "
                f"{self.folder} keeps the {len(history)} epochs before; "
                "lower the learning rate or train in float32."
            )
        self.update_net()
        self.save_net()
        complete = len(history) == self.run.epochs
        self._finish(history, "complete" if complete else "interrupted")
        return self.folder

    def _share(self) -> slice | None:
        return self.devices.share(self.run.batch_size) if self.devices.hosts > 1 else None

    def _augmentation(self) -> Augmentation | None:
        if not self.augment:
            return None
        mixup = None
        if self.mixup:
            mixup = Mixup(self.recipe.mixup, len(self.dataset.class_names), self.run.epochs)
        return Augmentation(self.recipe.augment, self.run.seed, mixup, len(self.batches))

    def _evaluate(self, split: data.Split, bar: bool = True) -> report.Evaluation:
        return report.evaluate(self.judge, split, max(256, self.run.batch_size), bar)

    def validate(self) -> dict[str, float]:
        self.update_net()
        found = self._evaluate(self.dataset.holdout or self.dataset.test, bar=False)
        return {"val_accuracy": found.accuracy, "val_loss": found.loss}

    def _title(self) -> str:
        return f"{self.net.name} on {self.dataset.name}"

    def _restore(self, history: list[dict]) -> int:
        """Load the checkpoint and return how many epochs it has seen."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            raise InputError(
                f"{self.folder} has no {CHECKPOINT} to go on from; start a new run from its model: "
                f"--model {self.folder / 'model.keras'}."
            )
        try:
            with np.load(path) as file:
                saved = dict(file)
            done = int(saved.pop("epochs"))
            with self.devices.scope():
                self.model.optimizer.build(self.model.trainable_variables)
            state = self._state()
            if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in state.items()}:
                raise ValueError("weights of another net or optimizer")
        except Exception as error:  # what a damaged archive raises is anyone's guess
            raise InputError(f"{path} cannot be read as this run's checkpoint.") from error
        if done > len(history):
            raise InputError(f"{self.folder / 'history.csv'} has fewer epochs than {CHECKPOINT}.")
        if done > self.run.epochs:
            raise InputError(f"{self.folder} has {done} epochs, more than {self.run.epochs}.")
        for name, variable in state.items():
            variable.assign(saved[name])
        return done

    def _state(self) -> dict[str, keras.Variable]:
        """All that goes on from epoch to epoch; random streams start anew with each."""
        return {v.path: v for v in (*self.copy.weights, *self.model.optimizer.variables)}

    def update_net(self) -> None:
        """Bring the net up to date with the model in training."""
        raw = self.copy.get_weights()
        if not self.recipe.ema:
            self.net.set_weights(raw)
            return
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.net.set_weights(self.copy.get_weights())
        self.copy.set_weights(raw)
        norms = [x for x in self.net.layers if isinstance(x, keras.layers.BatchNormalization)]
        if norms and not self.run.freeze:
            # The running statistics are those of the weights as they were, not of their average.
            renewals = math.log(STALE) / math.log(max(norm.momentum for norm in norms))
            for index in range(math.ceil(renewals)):
                self.net(self.batches[index % len(self.batches)][0], training=True)

    def save_net(self) -> None:
        if self.devices.rank == 0:
            save_model(self.net, self.folder / "model.keras")

    def checkpoint(self, history: list[dict]) -> None:
        """The checkpoint is written last: what it counts, the other files hold already."""
        if self.devices.rank:
            return
        rows = io.StringIO()
        writer = csv.DictWriter(rows, history[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.folder / "history.csv", rows.getvalue())
        self._write_report({"status": "running", **self._facts(history)})
        self.save_net()
        state = {k: keras.ops.convert_to_numpy(v) for k, v in self._state().items()}
        with replacing(self.folder / CHECKPOINT) as partial:
            np.savez(partial, epochs=len(history), **state)  # HDF5 crashes on a full disk

    def _facts(self, history: list[dict]) -> dict[str, Any]:
        return {
            "run": asdict(self.run),
            "recipe": asdict(self.recipe),
            "command": " ".join(sys.argv),
            "folder": str(self.folder.absolute()),
            "started_from": self.started_from,
            "epochs": len(history),
            "classes": list(self.dataset.class_names),
            "images": self.dataset.counts(),
            "validation": self._validation_name(),
            "parameters": report.parameters(self.net),
            "macs": report.macs(self.net),
            "devices": {
                "kind": self.devices.kind,
                "count": self.devices.count,
                "hosts": self.devices.hosts,
            },
            "machine": machine(),
        }

    def _validation_name(self) -> str:
        return "holdout" if self.dataset.holdout else self.dataset.test_name

    def _write_report(self, content: dict) -> None:
        if self.devices.rank:
            return
        write_text(self.folder / "report.json", json.dumps(content, indent=2) + "\n")

    def _finish(self, history: list[dict], status: str) -> None:
        if self.devices.rank:
            return
        print(f"Evaluating on the training and the {self.dataset.test_name} images")
        train, test = self._evaluate(self.dataset.train), self._evaluate(self.dataset.test)
        seconds = [row["seconds"] for row in history]
        images = len(self.batches) * self.run.batch_size
        timing = {}
        if seconds:
            timing = {
                "seconds_per_epoch_mean": statistics.mean(seconds),
                "seconds_per_epoch_median": statistics.median(seconds),
                "images_per_second": min(images, len(self.dataset.train))
                / statistics.median(seconds),
                "seconds_total": sum(seconds),
            }
        names = self.dataset.class_names
        self._write_report(
            {
                "status": status,
                **self._facts(history),
                "train": train.figures(),
                "test": test.figures(),
                "timing": timing,
                "test_by_class": test.by_class(names, as_dict=True),
            }
        )
        text = self._text(history, status, train, test, timing)
        write_text(self.folder / "report.txt", text)
        images_of = f"{len(test.labels):,} {self.dataset.test_name} images"
        accuracy = f"{100 * test.accuracy:.2f}% of {images_of} right"
        again = " from a trained model" if self.started_from else ""
        title = f"{self._title()}, {len(history)} epochs{again}: {accuracy}"
        if history:
            plots.curves(history, self._validation_name(), title, self.folder / "curves.png")
        plots.confusion(test.confusion(len(names)), names, title, self.folder / "confusion.png")
        print(f"\n{text}\nSaved in {self.folder}")

    def _text(
        self,
        history: list[dict],
        status: str,
        train: report.Evaluation,
        test: report.Evaluation,
        timing: dict[str, float],
    ) -> str:
        rows: list[tuple[str, ...]] = [("", "loss", "accuracy", "error", "top-5")]
        for name, part in (("train", train), (self.dataset.test_name, test)):
            shares = (part.accuracy, 1 - part.accuracy, part.top5)
            rows.append((name, f"{part.loss:.4f}", *(f"{share:.2%}" for share in shares)))
        head = (
            f"{self._title()}: {report.parameters(self.net):,} parameters, recipe "
            f"{self.recipe.name}, seed {self.run.seed}, "
            f"{len(history)} of {self.run.epochs} epochs, {status}"
        )
        if self.started_from:
            head += f"\nstarted from {self.started_from['file']}, {self.started_from['sha256']}"
        parts = [head, report.table(rows)]
        if timing:
            parts.append(
                report.table(
                    [
                        ("seconds per epoch, mean", f"{timing['seconds_per_epoch_mean']:.2f}"),
                        ("seconds per epoch, median", f"{timing['seconds_per_epoch_median']:.2f}"),
                        ("images per second", f"{timing['images_per_second']:.1f}"),
                        ("seconds of training in all", f"{timing['seconds_total']:.1f}"),
                    ]
                )
            )
        parts.append(test.by_class(self.dataset.class_names).rstrip())
        return "\n\n".join(parts) + "\n"


class _StartEpoch(keras.callbacks.Callback):
    """Start every random stream of an epoch from (seed, epoch): a resumed run draws the same."""

    def __init__(self, batches: data.Batches, seed: int):
        super().__init__()
        self.batches, self.seed = batches, seed

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.start_epoch(epoch)
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        keys = np.random.SeedSequence((self.seed, epoch)).generate_state(len(states)) >> 1
        for state, key in zip(states, keys, strict=True):
            state.assign([int(key), 0])


class _Recorder(keras.callbacks.Callback):
    """After every complete epoch: a row of history, the model, the checkpoint."""

    def __init__(self, training: _Training, history: list[dict]):
        super().__init__()
        self.training, self.history = training, history
        self.diverged: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds = 0.0
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.seconds = time.perf_counter() - self.started
        self.batch = batch
        if logs and not math.isfinite(logs["loss"]):
            self.diverged = logs["loss"]
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.diverged or self.batch + 1 < len(self.training.batches):
            return
        assert logs is not None
        with self.training.devices.alone():
            self._record(epoch, logs)

    def _record(self, epoch: int, logs: dict) -> None:
        logs |= self.training.validate()  # shown at the end of the progress bar, too
        if not math.isfinite(logs["val_loss"]):  # the last step of the epoch was the bad one
            self.diverged = logs["val_loss"]
            self.model.stop_training = True
            return
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        figures = {"seconds": self.seconds, "learning_rate": rate} | logs
        row = {key: float(f"{float(value):.6g}") for key, value in figures.items()}
        self.history.append({"epoch": epoch + 1} | row)
        self.training.checkpoint(self.history)


class _StopOnSignal(keras.callbacks.Callback):
    """The first Ctrl-C (or SIGTERM) ends training after the batch; the next one at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        self.previous: dict[int, Any] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True
        self._give_back()
        os.write(1, b"\nStopping after this batch, to save and report; again to stop at once.\n")

    def _give_back(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.model.stop_training |= self.asked

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.stop_training |= self.asked

    def on_train_end(self, logs: dict | None = None) -> None:
        self._give_back()
