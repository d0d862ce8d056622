"""How fast nets train and answer here, measured side by side.

Every figure is taken several times, the nets in turn, so that a machine that slows down slows all
of them; what is reported is the median and the range. The images are random and not augmented.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyconv import data, originals, plots, recipes, registry, report
from tinyconv.devices import Devices

EPOCH = 50_000  # the training images of CIFAR-10
LATENCY_CALLS = 100


@dataclass(frozen=True)
class Spread:
    """Several measurements of one figure."""

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


@dataclass(frozen=True)
class Timing:
    """The figures of one net: rates in images per second, times in seconds, size in bytes.

    `model` is the net by name, or `NAME (PyTorch)` for its original. `latency` holds single calls
    with one image, all runs together.
    """

    model: str
    parameters: int
    macs: int
    size: int
    training: Spread
    inference: Spread
    latency: Spread

    @property
    def seconds_per_epoch(self) -> float:
        return EPOCH / self.training.median

    @property
    def latency_p99(self) -> float:
        return float(np.percentile(self.latency.values, 99))

    def as_dict(self) -> dict:
        """Everything measured, for JSON."""
        return asdict(self) | {
            "training_median": self.training.median,
            "seconds_per_epoch": self.seconds_per_epoch,
            "inference_median": self.inference.median,
            "latency_median": self.latency.median,
            "latency_p99": self.latency_p99,
        }


def measure(
    names: Sequence[str],
    batch_size: int = 32,
    runs: int = 5,
    seconds: float = 1.0,
    on_run: Callable[[int], None] = lambda done: None,
    compare: bool = False,
) -> list[Timing]:
    """Time training and inference of the nets called `names`.

    Args:
        names: nets in `tinyconv.list_models()`.
        batch_size: images per step, in training and in inference.
        runs: how often each figure is taken.
        seconds: how long one run of training, and one of inference, takes at least, roughly.
        on_run: called with the number of runs done after each.
        compare: time their PyTorch originals, too, each in turn after the net.
    """
    kinds = (_Stopwatch, _TorchStopwatch) if compare else (_Stopwatch,)
    stopwatches = [kind(name, batch_size, seconds) for name in names for kind in kinds]
    for done in range(1, runs + 1):
        for stopwatch in stopwatches:
            stopwatch.run()
        on_run(done)
    return [stopwatch.result() for stopwatch in stopwatches]


class _Stopwatch:
    """One net, compiled and warm, ready to be timed again and again."""

    suffix = ""

    def __init__(self, name: str, batch_size: int, seconds: float):
        self.net = registry.find(name)
        self.batch_size = batch_size
        self._build(Devices())
        self.training: list[float] = []
        self.inference: list[float] = []
        self.latency: list[float] = []
        self._train(1), self._infer(1), self._call()
        self.training_steps = math.ceil(seconds / self._train(2)) * 2
        self.inference_steps = math.ceil(seconds / self._infer(2)) * 2

    def _build(self, devices: Devices) -> None:
        with devices.scope():
            self.model = registry.create_model(self.net.name)
            self.model.compile(
                optimizer=recipes.optimizer(recipes.find(self.net.recipe), steps=1_000_000),
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=devices.jit_compile,
            )

    def run(self) -> None:
        for rates, timed, steps in (
            (self.training, self._train, self.training_steps),
            (self.inference, self._infer, self.inference_steps),
        ):
            rates.append(steps * self.batch_size / timed(steps))
        self.latency += [self._call() for _ in range(LATENCY_CALLS)]

    def _batches(self, steps: int) -> data.Batches:
        rng = np.random.default_rng(0)
        count = steps * self.batch_size
        images = rng.integers(256, size=(count, *self.net.input_shape), dtype=np.uint8)
        labels = rng.integers(self.net.num_classes, size=count, dtype=np.int32)
        return data.Batches(data.Split(images, labels), self.batch_size)

    def _train(self, steps: int) -> float:
        clock = _Clock()
        self.model.fit(self._batches(steps + 1), shuffle=False, verbose=0, callbacks=[clock])
        return clock.seconds

    def _infer(self, steps: int) -> float:
        clock = _Clock()
        self.model.predict(self._batches(steps + 1), verbose=0, callbacks=[clock])
        return clock.seconds

    def _call(self) -> float:
        image = np.zeros((1, *self.net.input_shape), np.uint8)
        start = time.perf_counter()
        self.model.predict_on_batch(image)
        return time.perf_counter() - start

    def _size(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            registry.create_model(self.net.name).save(path)
            return path.stat().st_size

    def result(self) -> Timing:
        return Timing(
            self.net.name + self.suffix,
            self.net.parameters,
            self.net.macs,
            self._size(),
            *(Spread(tuple(values)) for values in (self.training, self.inference, self.latency)),
        )


class _TorchStopwatch(_Stopwatch):
    """The original of a net in PyTorch: eager, on a GPU if Keras is, the same batches and kind of
    optimizer, the images normalized in its steps as ours are in the net."""

    suffix = " (PyTorch)"

    def _build(self, devices: Devices) -> None:
        import torch

        self.torch = torch
        self.device = "cuda" if devices.kind == "gpu" else "cpu"
        self.original = originals.find(self.net.name)().to(self.device)
        kind = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
        optimizer = getattr(torch.optim, kind[recipes.find(self.net.recipe).optimizer])
        self.optimizer = optimizer(self.original.parameters(), lr=1e-3)

    def _answer(self, images: np.ndarray) -> Any:
        x = self.torch.from_numpy(images).to(self.device).movedim(-1, 1)
        return self.original(x / 127.5 - 1)

    def _train(self, steps: int) -> float:
        self.original.train()

        def step(images: np.ndarray, labels: np.ndarray) -> None:
            target = self.torch.from_numpy(labels).long().to(self.device)
            self.optimizer.zero_grad()
            loss = self.torch.nn.functional.cross_entropy(self._answer(images), target)
            loss.backward()
            self.optimizer.step()
            loss.item()  # an accelerator has finished only now

        return self._time(step, steps)

    def _infer(self, steps: int) -> float:
        self.original.eval()
        with self.torch.inference_mode():
            return self._time(lambda images, _: self._answer(images).cpu(), steps)

    def _time(self, step: Callable, steps: int) -> float:
        """Seconds from the end of the first batch to the end of the last, as `_Clock` has them."""
        batches = self._batches(steps + 1)
        step(*batches[0])
        start = time.perf_counter()
        for index in range(1, steps + 1):
            step(*batches[index])
        return time.perf_counter() - start

    def _call(self) -> float:
        self.original.eval()
        image = np.zeros((1, *self.net.input_shape), np.uint8)
        start = time.perf_counter()
        with self.torch.inference_mode():
            self._answer(image).cpu()
        return time.perf_counter() - start

    def _size(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.original.state_dict().values())


class _Clock(keras.callbacks.Callback):
    """Seconds from the end of the first batch to the end of the last: no start-up."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        if batch == 0:
            self.started = now
        self.seconds = now - self.started

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds = time.perf_counter() - self.started  # an accelerator has finished only now

    on_predict_batch_end = on_train_batch_end


def table(timings: Sequence[Timing]) -> str:
    """The figures for a terminal, a net per row: medians, ranges in brackets."""

    def spread(values: Spread) -> str:
        return f"{values.median:.0f} ({values.low:.0f}-{values.high:.0f})"

    head: tuple[str, ...] = ("net", "parameters", "MACs, M", "size, KB", "training, images/s")
    head += ("s per epoch", "inference, images/s", "latency, ms", "p99, ms")
    rows = [
        (
            timing.model,
            f"{timing.parameters:,}",
            f"{timing.macs / 1e6:.2f}",
            f"{timing.size / 1000:.0f}",
            spread(timing.training),
            f"{timing.seconds_per_epoch:.0f}",
            spread(timing.inference),
            f"{1000 * timing.latency.median:.1f}",
            f"{1000 * timing.latency_p99:.1f}",
        )
        for timing in timings
    ]
    return report.table([head, *rows])


def draw(timings: Sequence[Timing], caption: str, path: Path) -> None:
    """Training, inference and latency of the nets as bars, with their ranges."""
    picture, axes = plots.figure(12, 1.6 + 0.45 * len(timings), columns=3)
    names = [timing.model for timing in timings]
    panels = (
        ("Training, images per second", [t.training for t in timings], 1),
        ("Inference, images per second", [t.inference for t in timings], 1),
        ("One image, milliseconds", [t.latency for t in timings], 1000),
    )
    for ax, (title, spreads, scale) in zip(axes, panels, strict=True):
        medians = [scale * s.median for s in spreads]
        highs = [t.latency_p99 for t in timings] if scale > 1 else [s.high for s in spreads]
        lows = [scale * s.low for s in spreads]
        ends = [scale * high for high in highs]
        ax.barh(names, medians, color=plots.TEST, height=0.6)
        ax.hlines(names, lows, ends, color=plots.INK, lw=1)
        for name, median, end in zip(names, medians, ends, strict=True):
            text = f"{median:.1f}" if median < 100 else f"{median:,.0f}"
            ax.annotate(text, (end, name), (6, 0), textcoords="offset points", va="center")
        ax.set_title(title, loc="left", color=plots.INK)
        ax.margins(x=0.18)
        ax.grid(axis="y", visible=False)
        ax.grid(axis="x", color=plots.GRID)
        ax.invert_yaxis()
    for ax in axes[1:]:
        ax.set_yticklabels([])
    picture.supxlabel(caption, fontsize=8, color=plots.INK, x=0.01, ha="left")
    plots.save(picture, path)
