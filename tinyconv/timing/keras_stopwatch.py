"""The stopwatch of tinyconv: a net in Keras' `fit` and `predict`."""

import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from tinyconv import data
from tinyconv.devices import Devices
from tinyconv.factory import create_model
from tinyconv.fast.twin import twin
from tinyconv.saving import save_model
from tinyconv.timing.stopwatch import INFERENCE_BATCH, Stopwatch
from tinyconv.training.trainer import augmentation, compile_options

AHEAD = 8  # extra batches that keep the input pipeline full to the last timed step


class KerasStopwatch(Stopwatch):
    kind = "tinyconv"
    fuse = True
    mixed = False

    def build(self) -> None:
        self.augmented = self.recipe.always_augment
        devices = Devices()
        with devices.scope():
            net = create_model(self.net.name)
            fast = self.fuse and devices.can_fuse
            if self.mixed:
                net = devices.clone(net, True, fast)
            self.model = twin(net, mixed=self.mixed) if fast else net
            options = compile_options(
                self.recipe,
                steps=1_000_000,
                soft_labels=self.mixup,
                classes=self.net.num_classes,
            )
            self.predictor = keras.Model(self.model.input, self.model.output)  # as `evaluate` does
            self.model.compile(**options, jit_compile=devices.jit_compile(self.model, fast))

    @property
    def mixup(self) -> bool:
        return self.augmented and self.recipe.mixup > 0

    def train(self, steps: int, size: int, augment: bool = True) -> float:
        clock = _Clock()
        batches = self.batches(steps + AHEAD, size)
        augment_batch = None
        if augment and self.augmented:
            augment_batch = augmentation(
                self.recipe,
                seed=0,
                classes=self.net.num_classes,
                epochs=1,
                steps_per_epoch=len(batches),
            )
        elif self.mixup:
            one_hot = np.eye(self.net.num_classes, dtype=np.float32)[batches.split.labels]
            batches = data.Batches(data.Split(batches.split.images, one_hot), size)
        self.model.fit(
            data.feed(batches, augment_batch),
            steps_per_epoch=steps + 1,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        return clock.seconds

    def infer(self, steps: int) -> float:
        clock = _Clock()
        batches = self.batches(steps + 1, INFERENCE_BATCH)
        self.predictor.predict(batches, verbose=0, callbacks=[clock])
        return clock.seconds

    def answer(self, images: np.ndarray) -> np.ndarray:
        return self.predictor.predict_on_batch(images)

    def size(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            save_model(create_model(self.net.name), path)
            return path.stat().st_size


class _Clock(keras.callbacks.Callback):
    """Measures the seconds from the end of the first batch to the end of the last batch."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        if batch == 0:
            self.started = now
        self.seconds = now - self.started

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds = time.perf_counter() - self.started  # an accelerator has now finished

    on_predict_batch_end = on_train_batch_end
