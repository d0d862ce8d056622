"""An ablation of the fast twin: the time that each of its parts saves, under TensorFlow on a CPU.

`python -m tinyconv.timing.ablation` times a step of training and a batch of inference, in turn
without and with one part. It prints the median and the range of the ratios of both times, and of
both CPU times.
"""

import functools
import importlib
import math
import sys
import time
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from numba import njit

from tinyconv import create_model, fast, recipes, registry
from tinyconv.fast import batchnorm, chain, kernels, twin
from tinyconv.timing.figures import Spread
from tinyconv.training.trainer import compile_options

ROUNDS, TRAINING_BATCH, INFERENCE_BATCH = 7, 32, 64
F, inlined, compiled, chains = kernels.F, kernels.inlined, njit(**kernels.OPTIONS), twin._chains


def _without(block):
    return patch.object(twin, "BLOCKS", tuple(b for b in twin.BLOCKS if b.__name__ != block))


@contextmanager
def _recompiled(block, **functions):
    """The context in which the module of a block is imported anew, with other functions."""
    names = {kind.__module__ for kind in twin.BLOCKS} | {twin.__name__}
    before = {name: sys.modules.pop(name) for name in names}
    with patch.dict(vars(fast)), patch.object(kernels, "compiled", compiled):
        vars(importlib.import_module(f"tinyconv.fast.{block}")).update(functions)
        yield
    sys.modules.update(before)


def _recomputing(*arguments):
    made = chain.Chain(*arguments)
    made.train = False  # keeps no activations
    return made


@compiled
def _draw(keep, seed):
    for i in range(keep.shape[0]):
        keep[i] = F(np.random.random() < 0.5)


@compiled
def _convolve(padded, kernel, bias, jump, dilation, target):
    for h in range(target.shape[0]):
        row = target[h]
        row[:] = bias
        for i, j in np.ndindex(kernel.shape[:2]):
            source, factors = padded[h + i * dilation, j * jump :], kernel[i, j]
            for c in range(row.shape[0]):
                row[c] += source[c] * factors[c]


EXP = inlined(lambda x, highest: F(math.exp(min(x, highest))))
ERF, TANH = inlined(lambda x: F(math.erf(x))), inlined(lambda x: F(math.tanh(x)))
TINY, HALF, TINIEST = "cifar10_tiny", "cifar10_tiny_half", "tiniest"
PARTS = {  # a context without the part, and the nets
    "bottleneck": (_without("Bottleneck"), (TINY, HALF)),
    "gated block": (_without("Gated"), (TINIEST,)),
    "grouped downscale": (_without("Grouped"), (TINIEST,)),
    "layer norm": (_without("Norm"), (TINY, HALF, TINIEST)),
    "batch norm": (patch.object(batchnorm.OneBatchNorm, "patterns", ()), ("resnet20",)),
    "chain": (
        patch.object(twin, "_chains", lambda graph: [[p] for ps in chains(graph) for p in ps]),
        (TINY, TINIEST),
    ),
    "kept activations": (patch.object(twin, "Chain", _recomputing), (TINY, TINIEST)),
    "tiles": (_recompiled("gated", convolve=_convolve), (TINIEST,)),
    "hashed dropout": (_recompiled("bottleneck", draw=_draw), (TINY,)),
    "exp and erf": (_recompiled("bottleneck", exp=EXP, erf=ERF), (TINY,)),
    "exp and tanh": (_recompiled("gated", exp=EXP, tanh=TANH), (TINIEST,)),
}


def _timed(name):
    """A function that times training and inference: the seconds and CPU seconds of each."""
    net, rng = registry.get(name), np.random.default_rng(0)
    model = importlib.import_module(twin.__name__).fused(create_model(name))
    model.compile(
        **compile_options(
            recipes.get(net.recipe), steps=1000, soft_labels=False, classes=net.num_classes
        )
    )
    images = rng.integers(256, size=(INFERENCE_BATCH, *net.input_shape)).astype(np.uint8)
    batch = images[:TRAINING_BATCH], rng.integers(net.num_classes, size=TRAINING_BATCH)

    def seconds():
        times = [(time.perf_counter(), time.process_time())]
        for step in (lambda: model.train_on_batch(*batch), lambda: model.predict_on_batch(images)):
            step()
            times.append((time.perf_counter(), time.process_time()))
        return np.diff(times, axis=0).ravel()

    seconds()
    return seconds


def main(parts: dict = PARTS, rounds: int = ROUNDS) -> None:
    """Time `parts`, and print a table."""
    whole = functools.cache(_timed)
    print("| part | net | training | CPU time | inference | CPU time |\n" + "|---" * 6 + "|")
    for part, (context, names) in parts.items():
        with context:
            others = {name: _timed(name) for name in names}
        for name, other in others.items():
            ratios = np.array([other() / whole(name)() for _ in range(rounds)])
            cells = (f"{Spread(tuple(column)):.2f}" for column in ratios.T)
            print(f"| {part} | `{name}` |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
