"""Callbacks that seed an epoch, record it, and stop the training on Ctrl-C."""

import importlib.util
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyconv.errors import InputError
from tinyconv.training import stopping
from tinyconv.training.run import BEST
from tinyconv.training.run_folder import RunFolder
from tinyconv.training.trainer import Trainer


class StartEpoch(keras.callbacks.Callback):
    """Seeds every random generator with (seed, epoch) at the beginning of an epoch.

    A resumed run therefore has the same random numbers.
    """

    def __init__(self, trainer: Trainer):
        super().__init__()
        self.trainer = trainer

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.trainer.batches.start_epoch(epoch)
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        seed = (self.trainer.run.seed, epoch)
        keys = np.random.SeedSequence(seed).generate_state(len(states)) >> 1
        for state, key in zip(states, keys, strict=True):
            state.assign([int(key), 0])


class Recorder(keras.callbacks.Callback):
    """Validates the net after every complete epoch, and writes history, model and checkpoint.

    Attributes:
        diverged: the first loss that was not finite, or None. Such a loss stops the training.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder):
        super().__init__()
        self.trainer, self.folder = trainer, folder
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
        if self.diverged or self.batch + 1 < len(self.trainer.batches):
            return
        assert logs is not None
        with self.trainer.devices.on_one_device():
            self._record(epoch, logs)

    def _record(self, epoch: int, logs: dict) -> None:
        logs |= self.trainer.validate()  # the progress bar shows these metrics too
        if not math.isfinite(logs["val_loss"]):  # the last step of the epoch diverged
            self.diverged = logs["val_loss"]
            self.model.stop_training = True
            return
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        figures = {"seconds": self.seconds, "learning_rate": rate} | logs
        row = {key: float(f"{float(value):.6g}") for key, value in figures.items()}
        self.folder.history.append({"epoch": epoch + 1} | row)
        if self.trainer.run.keep == BEST:
            is_best = stopping.best(self.folder.history) == epoch + 1
            (self.trainer.keep_best if is_best else self.trainer.use_best)()
        self.model.stop_training |= stopping.is_over(self.trainer.run, self.folder.history)
        self.folder.save_epoch(self.trainer.net, self.trainer.state())


class EpochLog(keras.callbacks.TensorBoard):
    """Writes the metrics of every complete epoch for TensorBoard.

    A killed run keeps the metrics that were written. A resumed run adds those of its epochs.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path):
        super().__init__(str(folder / "tensorboard"), write_graph=False)

    @staticmethod
    def check() -> None:
        """Check that TensorBoard is installed.

        Raises:
            InputError: TensorBoard is not installed.
        """
        if importlib.util.find_spec("tensorboard") is None:
            raise InputError(
                "--tensorboard needs TensorBoard: pip install 'tinyconv[tensorboard]'."
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs and "val_loss" in logs:  # `Recorder` adds it to those of complete epochs
            super().on_epoch_end(epoch, logs)
            for writer in self._writers.values():
                writer.flush()


class StopOnSignal(keras.callbacks.Callback):
    """Stops the training after the current batch on Ctrl-C or SIGTERM.

    A second signal ends the process at once.
    """

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
        self._restore_handlers()
        os.write(1, b"\nStopping after this batch to save the model; press Ctrl-C again to quit.\n")

    def _restore_handlers(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.model.stop_training |= self.asked

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.stop_training |= self.asked

    def on_train_end(self, logs: dict | None = None) -> None:
        self._restore_handlers()
