"""The base class of stopwatches, which defines the figures and the number of steps."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv import data, recipes, registry
from tinyconv.timing.figures import Spread, Timing

INFERENCE_BATCH = 64
LATENCY_CALLS = 20  # in each run


class Stopwatch(ABC):
    """Measures the figures of one net, several times.

    The constructor builds the net and runs each figure's code once as a warm-up. A subclass builds
    the net, trains it and gives its outputs.

    Args:
        name: the name of the net.
        batch_sizes: images per step of training.
        seconds: the approximate minimal length of one measurement.
        folder: the folder of `prepare`.

    Attributes:
        kind: what runs the net, for the tables.
        library: the package on PyPI whose version a report states. Keras is always stated.
        augmented: whether training augments. Training is then also timed without augmentation.
    """

    kind: str
    library = ""
    augmented = False

    @classmethod
    def check(cls, name: str) -> None:
        """Check that the net called `name` can be timed.

        Raises:
            InputError: the net cannot be timed.
        """
        registry.get(name)

    @classmethod  # noqa: B027
    def prepare(cls, name: str, folder: Path) -> None:
        """Write the files that `build` needs into `folder`.

        Another process calls this method before anything is timed. The timed process thus has no
        threads of the writer.

        Raises:
            InputError: the files cannot be written or run.
        """

    def __init__(self, name: str, batch_sizes: Sequence[int], seconds: float, folder: Path):
        self.folder = folder
        self.net = registry.get(name)
        self.recipe = recipes.get(self.net.recipe)
        self.build()
        self.training: dict[int, list[float]] = {size: [] for size in batch_sizes}
        self.unaugmented: dict[int, list[float]] = {}
        self.inference: list[float] = []
        self.latency: list[float] = []
        self.steps = {}
        for size in batch_sizes:
            if self.augmented:
                self.unaugmented[size] = []
            self.train(1, size)
            self.steps[size] = math.ceil(seconds / self.train(2, size)) * 2
        self.infer(1), self.call()
        self.inference_steps = math.ceil(seconds / self.infer(2)) * 2

    @abstractmethod
    def build(self) -> None:
        """Build the net and its optimizer."""

    @abstractmethod
    def train(self, steps: int, size: int, augment: bool = True) -> float:
        """The seconds that `steps` steps of training take, with `size` images per step."""

    @abstractmethod
    def answer(self, images: np.ndarray) -> np.ndarray:
        """The logits (N, classes) of images (N, height, width, 3) in uint8."""

    def infer(self, steps: int) -> float:
        """The seconds of inference for `steps` batches of `INFERENCE_BATCH` images."""
        return self._time(lambda images, _: self.answer(images), steps, INFERENCE_BATCH)

    def call(self) -> float:
        """The seconds of inference for one image."""
        image = np.zeros((1, *self.net.input_shape), np.uint8)
        start = time.perf_counter()
        self.answer(image)
        return time.perf_counter() - start

    @abstractmethod
    def size(self) -> int:
        """The size of the net on disk, in bytes."""

    def batches(self, steps: int, size: int) -> data.Batches:
        """Random images and labels for `steps` steps."""
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(steps * size, *self.net.input_shape), dtype=np.uint8)
        labels = rng.integers(self.net.num_classes, size=len(images), dtype=np.int32)
        return data.Batches(data.Split(images, labels), size)

    def run(self) -> None:
        """Measure every figure once, and the latency `LATENCY_CALLS` times."""
        for figures, augment in ((self.training, True), (self.unaugmented, False)):
            for size, rates in figures.items():
                steps = self.steps[size]
                rates.append(steps * size / self.train(steps, size, augment))
        steps = self.inference_steps
        self.inference.append(steps * INFERENCE_BATCH / self.infer(steps))
        self.latency += [self.call() for _ in range(LATENCY_CALLS)]

    def _time(self, step: Callable[[Any, Any], Any], steps: int, size: int) -> float:
        """The seconds from the end of the first batch to the end of the last."""
        batches = self.batches(steps + 1, size)
        step(*batches[0])
        start = time.perf_counter()
        for index in range(1, steps + 1):
            step(*batches[index])
        return time.perf_counter() - start

    def result(self) -> Timing:
        """The figures of all runs so far."""

        def by_batch(figures: dict[int, list[float]]) -> dict[int, Spread]:
            return {size: Spread(tuple(rates)) for size, rates in figures.items()}

        return Timing(
            model=self.net.name,
            kind=self.kind,
            parameters=self.net.parameters,
            macs=self.net.macs,
            size=self.size(),
            training=by_batch(self.training),
            unaugmented=by_batch(self.unaugmented),
            inference=Spread(tuple(self.inference)),
            latency=Spread(tuple(self.latency)),
        )
