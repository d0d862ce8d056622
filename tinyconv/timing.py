"""How fast nets train and answer here, measured side by side.

Every figure is taken several times, the nets in turn, so that a machine that slows down slows all
of them, and each in a process of its own, where no other library's threads are in its way; what is
reported is the median and the range. A net trains as `train.py` trains it, fused blocks, optimizer
and the recipe's fixed augmentation included, on random images.
"""

import math
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyconv import data, originals, plots, recipes, registry, report
from tinyconv.augment import Augmentation, Mixup
from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.fast.twin import twin
from tinyconv.saving import save_model

EPOCH = 50_000  # the training images of CIFAR-10
INFERENCE_BATCH = 64
LATENCY_CALLS = 20  # a run
AHEAD = 8  # batches more than are timed, so that the pipeline is as full at the end as at the start


@dataclass(frozen=True)
class Spread:
    """Several measurements of one figure, one a run."""

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

    def over(self, other: "Spread") -> "Spread":
        """The ratio to another figure of the same runs, run by run."""
        return Spread(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))


@dataclass(frozen=True)
class Timing:
    """The figures of one net: rates in images per second, times in seconds, size in bytes.

    `training` and, if the recipe always augments, `unaugmented` have a rate for each batch size;
    `inference` is by batches of 64, and `latency` holds single calls with one image.
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
        return self.model if self.kind == "tinyconv" else f"{self.model}, {self.kind}"

    @property
    def batch_size(self) -> int:
        """The better one in training."""
        return max(self.training, key=lambda size: self.training[size].median)

    @property
    def best(self) -> Spread:
        """Training at the better batch size."""
        return self.training[self.batch_size]

    @property
    def seconds_per_epoch(self) -> float:
        return EPOCH / self.best.median

    @property
    def latency_p99(self) -> float:
        return float(np.percentile(self.latency.values, 99))

    def as_dict(self) -> dict:
        """Everything measured, for JSON."""
        return asdict(self) | {
            "batch_size": self.batch_size,
            "training_median": self.best.median,
            "seconds_per_epoch": self.seconds_per_epoch,
            "inference_median": self.inference.median,
            "latency_median": self.latency.median,
            "latency_p99": self.latency_p99,
        }


def measure(
    names: Sequence[str],
    batch_sizes: Sequence[int] = (32, 128),
    runs: int = 5,
    seconds: float = 1.0,
    on_step: Callable[[int], None] = lambda done: None,
    peers: Sequence[str] = (),
) -> list[Timing]:
    """Time training and inference of the nets called `names`.

    Args:
        names: nets in `tinyconv.list_models()`.
        batch_sizes: images per step of training.
        runs: how often each figure is taken.
        seconds: how long one run of training, and one of inference, takes at least, roughly.
        on_step: called with the number of steps done, of `steps(names, runs, peers)`.
        peers: of `PEERS`, each timed in turn after the net.
    """
    workers: list[_Worker] = []
    try:
        for name in names:
            for peer in ("", *peers):
                workers.append(_Worker(peer, name, batch_sizes, seconds))
                on_step(len(workers))
        for done in range(1, runs + 1):
            for number, worker in enumerate(workers, 1):
                worker.ask("run")
                on_step(done * len(workers) + number)
        return [worker.ask("result") for worker in workers]
    finally:
        for worker in workers:
            worker.pipe.close()


def steps(names: Sequence[str], runs: int, peers: Sequence[str]) -> int:
    """How many steps `measure` reports."""
    return len(names) * (1 + len(peers)) * (1 + runs)


class _Worker:
    """A stopwatch in another process, which ends when `pipe` is closed."""

    def __init__(self, *arguments: Any):
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several share the memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(theirs, *arguments), daemon=True)
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            resource_tracker.ensure_running()  # its start would unblock the signal
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it inherits that
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        else:
            process.start()
        theirs.close()
        self.ask()

    def ask(self, method: str = "") -> Any:
        """What a method answers; without one, nothing, as soon as the stopwatch is ready."""
        try:
            if method:
                self.pipe.send(method)
            answer = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise InputError("A process that timed a net died; time fewer at once.") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Any, peer: str, name: str, batch_sizes: Sequence[int], seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    try:
        kind = PEERS[peer] if peer else _Stopwatch
        stopwatch = kind(name, batch_sizes, seconds)
        pipe.send(None)
        while True:
            pipe.send(getattr(stopwatch, pipe.recv())())
    except (EOFError, ConnectionError):
        pass  # nobody asks any more
    except Exception as error:
        pipe.send(error)


class _Stopwatch:
    """One net, compiled and warm, ready to be timed again and again."""

    kind = "tinyconv"
    fuse = True

    def __init__(self, name: str, batch_sizes: Sequence[int], seconds: float):
        self.net = registry.find(name)
        self.recipe = recipes.find(self.net.recipe)
        self.augmented = self.recipe.always_augment
        self._build(Devices())
        self.training: dict[int, list[float]] = {size: [] for size in batch_sizes}
        self.unaugmented: dict[int, list[float]] = {}
        self.inference: list[float] = []
        self.latency: list[float] = []
        self.steps = {}
        for size in batch_sizes:
            if self.augmented:
                self.unaugmented[size] = []
            self._train(1, size)
            self.steps[size] = math.ceil(seconds / self._train(2, size)) * 2
        self._infer(1), self._call()
        self.inference_steps = math.ceil(seconds / self._infer(2)) * 2

    def _build(self, devices: Devices) -> None:
        with devices.scope():
            net = registry.create_model(self.net.name)
            self.model = twin(net) if self.fuse and devices.can_fuse(mixed=False) else net
            loss = "Categorical" if self._mixes() else "SparseCategorical"
            self.model.compile(
                optimizer=recipes.optimizer(self.recipe, steps=1_000_000),
                loss=getattr(keras.losses, f"{loss}Crossentropy")(from_logits=True),
                jit_compile=devices.jit_compile,
            )

    def _mixes(self) -> bool:
        return self.augmented and self.recipe.mixup > 0

    def run(self) -> None:
        for figures, augment in ((self.training, True), (self.unaugmented, False)):
            for size, rates in figures.items():
                steps = self.steps[size]
                rates.append(steps * size / self._train(steps, size, augment))
        steps = self.inference_steps
        self.inference.append(steps * INFERENCE_BATCH / self._infer(steps))
        self.latency += [self._call() for _ in range(LATENCY_CALLS)]

    def _batches(self, steps: int, size: int) -> data.Batches:
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(steps * size, *self.net.input_shape), dtype=np.uint8)
        labels = rng.integers(self.net.num_classes, size=len(images), dtype=np.int32)
        return data.Batches(data.Split(images, labels), size)

    def _augmentation(self, steps: int) -> Augmentation:
        classes = self.net.num_classes
        mixup = Mixup(self.recipe.mixup, classes, 1) if self.recipe.mixup else None
        return Augmentation(self.recipe.augment, 0, mixup, steps)

    def _train(self, steps: int, size: int, augment: bool = True) -> float:
        clock = _Clock()
        batches = self._batches(steps + AHEAD, size)
        augmentation = None
        if self.augmented and augment:
            augmentation = self._augmentation(len(batches))
        elif self._mixes():
            one_hot = np.eye(self.net.num_classes, dtype=np.float32)[batches.split.labels]
            batches = data.Batches(data.Split(batches.split.images, one_hot), size)
        self.model.fit(
            data.feed(batches, augmentation),
            steps_per_epoch=steps + 1,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        )
        return clock.seconds

    def _infer(self, steps: int) -> float:
        clock = _Clock()
        batches = self._batches(steps + 1, INFERENCE_BATCH)
        self.model.predict(batches, verbose=0, callbacks=[clock])
        return clock.seconds

    def _call(self) -> float:
        image = np.zeros((1, *self.net.input_shape), np.uint8)
        start = time.perf_counter()
        self.model.predict_on_batch(image)
        return time.perf_counter() - start

    def _size(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            save_model(registry.create_model(self.net.name), path)
            return path.stat().st_size

    def result(self) -> Timing:
        def by_batch(figures: dict[int, list[float]]) -> dict[int, Spread]:
            return {size: Spread(tuple(rates)) for size, rates in figures.items()}

        return Timing(
            model=self.net.name,
            kind=self.kind,
            parameters=self.net.parameters,
            macs=self.net.macs,
            size=self._size(),
            training=by_batch(self.training),
            unaugmented=by_batch(self.unaugmented),
            inference=Spread(tuple(self.inference)),
            latency=Spread(tuple(self.latency)),
        )


class _KerasStopwatch(_Stopwatch):
    """The same net and training without fused blocks: what `fit` makes of the stock layers."""

    kind = "plain Keras"
    fuse = False


class _TorchStopwatch(_Stopwatch):
    """The original of a net in PyTorch: eager, channels last, on a GPU if Keras is, with the same
    kind of optimizer and without augmentation, the images normalized in its steps."""

    kind = "PyTorch"

    def __init__(self, name: str, batch_sizes: Sequence[int], seconds: float):
        import torch

        self.torch = torch
        super().__init__(name, batch_sizes, seconds)

    def _build(self, devices: Devices) -> None:
        self.augmented = False
        self.device = "cuda" if devices.kind == "gpu" else "cpu"
        original = originals.find(self.net.name)()
        self.original = original.to(self.device, memory_format=self.torch.channels_last)
        kind = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[self.recipe.optimizer]
        self.optimizer = getattr(self.torch.optim, kind)(self.original.parameters(), lr=1e-3)

    def _answer(self, images: np.ndarray) -> Any:
        x = self.torch.from_numpy(images).to(self.device).movedim(-1, 1)
        return self.original(x / 127.5 - 1)

    def _step(self, images: np.ndarray, labels: np.ndarray) -> None:
        target = self.torch.from_numpy(labels).long().to(self.device)
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self._answer(images), target)
        loss.backward()
        self.optimizer.step()
        loss.item()  # an accelerator has finished only now

    def _train(self, steps: int, size: int, augment: bool = True) -> float:
        self.original.train()
        return self._time(self._step, steps, size)

    def _infer(self, steps: int) -> float:
        self.original.eval()
        with self.torch.inference_mode():
            return self._time(lambda images, _: self._answer(images).cpu(), steps, INFERENCE_BATCH)

    def _time(self, step: Callable, steps: int, size: int) -> float:
        """Seconds from the end of the first batch to the end of the last, as `_Clock` has them."""
        batches = self._batches(steps + 1, size)
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


class _CompiledStopwatch(_TorchStopwatch):
    """The same through `torch.compile`."""

    kind = "compiled PyTorch"

    def _build(self, devices: Devices) -> None:
        import torch._dynamo

        torch._dynamo.config.recompile_limit = 64  # widths, batch sizes, training and inference
        super()._build(devices)
        self.original.compile()


PEERS: dict[str, type[_Stopwatch]] = {
    "keras": _KerasStopwatch,
    "torch": _TorchStopwatch,
    "compiled": _CompiledStopwatch,
}


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
    head: tuple[str, ...] = ("net", "parameters", "MACs, M", "size, KB", "training, images/s")
    head += ("batch", "s per epoch", "inference, images/s", "latency, ms", "p99, ms")
    rows = [
        (
            timing.name,
            f"{timing.parameters:,}",
            f"{timing.macs / 1e6:.2f}",
            f"{timing.size / 1000:.0f}",
            _spread(timing.best, 0),
            str(timing.batch_size),
            f"{timing.seconds_per_epoch:.0f}",
            _spread(timing.inference, 0),
            f"{1000 * timing.latency.median:.1f}",
            f"{1000 * timing.latency_p99:.1f}",
        )
        for timing in timings
    ]
    return report.table([head, *rows])


def comparison(timings: Sequence[Timing]) -> str:
    """How many times as fast a net is as its peers, each at its better batch size, and the share
    of a training step that augmentation takes."""
    rows: list[tuple[str, ...]] = [("net", "against", "training", "inference")]
    for ours in (timing for timing in timings if timing.kind == "tinyconv"):
        for theirs in timings:
            if theirs.model == ours.model and theirs is not ours:
                pairs = (ours.best, theirs.best), (ours.inference, theirs.inference)
                ratios = (_spread(one.over(other), 2) for one, other in pairs)
                rows.append((ours.model, theirs.kind, *ratios))
        if ours.unaugmented:
            ratio = ours.best.over(ours.unaugmented[ours.batch_size])
            rows.append((ours.model, "itself without augmentation", _spread(ratio, 2), ""))
    return report.table(rows)


def _spread(values: Spread, digits: int) -> str:
    return f"{values.median:.{digits}f} ({values.low:.{digits}f}-{values.high:.{digits}f})"


def draw(timings: Sequence[Timing], caption: str, path: Path) -> None:
    """Training, inference and latency of the nets as bars, with their ranges."""
    picture, axes = plots.figure(12, 1.6 + 0.45 * len(timings), columns=3)
    names = [timing.name for timing in timings]
    panels = (
        ("Training, images per second", [t.best for t in timings], 1),
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
