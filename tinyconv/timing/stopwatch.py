"""What is common to all that is timed: which figures are taken, and from how many steps."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from tinyconv import data, recipes, registry
from tinyconv.timing.figures import Spread, Timing

INFERENCE_BATCH = 64
LATENCY_CALLS = 20  # in each run


class Stopwatch(ABC):
    """One net, built and warm, whose figures are taken again and again.

    A subclass builds the net and times its training, its inference and single calls.

    Attributes:
        kind: what runs the net, as the tables call it.
        augmented: whether training augments; training is then timed without augmentation too.
    """

    kind: str
    augmented = False

    @classmethod
    def check(cls, name: str) -> None:
        """Raise `InputError` if the net called `name` cannot be timed."""
        registry.get(name)

    def __init__(self, name: str, batch_sizes: Sequence[int], seconds: float):
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
        """Make the net and what trains it."""

    @abstractmethod
    def train(self, steps: int, size: int, augment: bool = True) -> float:
        """Seconds that `steps` steps of training take, by batches of `size` images."""

    @abstractmethod
    def infer(self, steps: int) -> float:
        """Seconds that `steps` batches of `INFERENCE_BATCH` images take."""

    @abstractmethod
    def call(self) -> float:
        """Seconds that one image takes."""

    @abstractmethod
    def size(self) -> int:
        """Bytes of the net on disk."""

    def batches(self, steps: int, size: int) -> data.Batches:
        """Random images and labels for `steps` steps."""
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(steps * size, *self.net.input_shape), dtype=np.uint8)
        labels = rng.integers(self.net.num_classes, size=len(images), dtype=np.int32)
        return data.Batches(data.Split(images, labels), size)

    def run(self) -> None:
        """Take every figure once, and the latency `LATENCY_CALLS` times."""
        for figures, augment in ((self.training, True), (self.unaugmented, False)):
            for size, rates in figures.items():
                steps = self.steps[size]
                rates.append(steps * size / self.train(steps, size, augment))
        steps = self.inference_steps
        self.inference.append(steps * INFERENCE_BATCH / self.infer(steps))
        self.latency += [self.call() for _ in range(LATENCY_CALLS)]

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
