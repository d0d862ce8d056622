"""The figures that are measured of a net."""

import statistics
from dataclasses import asdict, dataclass

import numpy as np

EPOCH = 50_000  # the training images of CIFAR-10


@dataclass(frozen=True)
class Spread:
    """Several measurements of one figure, one for each run. Empty if it was not measured."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def __format__(self, spec: str) -> str:
        """The median and, in brackets, the range, each in the format `spec`; "-" if empty."""
        if not self.values:
            return "-"
        return f"{self.median:{spec}} ({self.low:{spec}}-{self.high:{spec}})"

    def over(self, other: "Spread") -> "Spread":
        """The ratio to another figure in each run. Empty if either figure is empty."""
        if not (self.values and other.values):
            return Spread(())
        return Spread(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))


@dataclass(frozen=True)
class Timing:
    """The figures of one net: rates in images per second, times in seconds, size in bytes.

    Args:
        model: the name of the net.
        kind: what runs the net, such as "tinyconv" or "PyTorch".
        parameters: the number of parameters.
        macs: the number of multiply-adds for one image.
        size: the size of the net on disk.
        training: the rate of training by batch size. Empty if only inference was timed.
        unaugmented: the same without augmentation. Empty unless the recipe always augments.
        inference: the rate of inference with batches of 64 images.
        latency: the times of single calls with one image, several for each run.
    """

    model: str
    kind: str
    parameters: int
    macs: int
    size: int
    training: dict[int, Spread]
    unaugmented: dict[int, Spread]
    inference: Spread
    latency: Spread

    @property
    def name(self) -> str:
        """The name of the net, and of what runs the net unless that is tinyconv."""
        return self.model if self.kind == "tinyconv" else f"{self.model}, {self.kind}"

    @property
    def batch_size(self) -> int | None:
        """The batch size that trains the most images per second, or None if none was timed."""
        return max(self.training, key=lambda size: self.training[size].median, default=None)

    @property
    def best(self) -> Spread:
        """The rate of training at `batch_size`. Empty if none was timed."""
        return max(self.training.values(), key=lambda rate: rate.median, default=Spread(()))

    @property
    def seconds_per_epoch(self) -> float | None:
        """The time of training on the 50,000 images of CIFAR-10, at the median of `best`."""
        return EPOCH / self.best.median if self.training else None

    @property
    def latency_by_run(self) -> Spread:
        """The median latency of each run."""
        runs = np.array_split(self.latency.values, len(self.inference.values))
        return Spread(tuple(float(np.median(calls)) for calls in runs))

    @property
    def latency_p99(self) -> float:
        """The 99th percentile of the latency in seconds."""
        return float(np.percentile(self.latency.values, 99))

    def as_dict(self) -> dict:
        """All figures as a dict for JSON."""
        return asdict(self) | {
            "batch_size": self.batch_size,
            "training_median": self.best.median if self.training else None,
            "seconds_per_epoch": self.seconds_per_epoch,
            "inference_median": self.inference.median,
            "latency_median": self.latency.median,
            "latency_p99": self.latency_p99,
        }
