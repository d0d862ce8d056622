"""The seconds from an import to one training step of each of timm's test nets, beside timm.

`python -m tinyconv.timing.first_step [BATCH ...]` writes random weights of every net to a file,
which both libraries load. Each measurement is a process of its own, and the libraries take turns.
It prints the median and the range of the wall times, and the median of the CPU times.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv import list_models
from tinyconv.timing.figures import Spread

ROUNDS, BATCHES = 5, (2, 32)
NETS = list_models("test_*")
SIDE = 160  # pixels


def tinyconv(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """One step of each net by Keras, in eager mode."""
    from tinyconv import create_model

    for name in NETS:
        model = create_model(name, pretrained=folder / f"{name}.safetensors")
        import keras

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
        model.train_on_batch(images, labels)


def timm(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """One step of each net by PyTorch, in eager mode and channels-last memory format."""
    import timm
    import torch

    x = torch.from_numpy(images).movedim(-1, 1) / 127.5 - 1
    for name in NETS:
        weights = {"file": str(folder / f"{name}.safetensors")}
        model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=weights)
        model = model.train().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        torch.nn.functional.cross_entropy(model(x), torch.from_numpy(labels)).backward()
        optimizer.step()


LIBRARIES = {library.__name__: library for library in (tinyconv, timm)}


def write(folder: Path) -> None:
    """Write random weights of every net as a file of its original."""
    from tinyconv import create_model, weights

    for name in NETS:
        weights.save_torch(create_model(name), folder / f"{name}.safetensors")


def measure(library: str, folder: Path, batch: int) -> tuple[float, float]:
    """The wall time and the CPU time of a process, in seconds."""
    module = "tinyconv.timing.first_step"
    command = [sys.executable, "-m", module, library, str(folder), str(batch)]
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    used = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    return wall, used


def main(
    batches: Iterable[int] = BATCHES, rounds: int = ROUNDS, libraries: Iterable[str] = LIBRARIES
) -> None:
    """Time the libraries by batches of these sizes, and print a table."""
    print("| images | library | seconds | CPU seconds |\n" + "|---" * 4 + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        for batch in batches:
            times: dict[str, list] = {library: [] for library in libraries}
            for _ in range(rounds):
                for library, found in times.items():
                    found.append(measure(library, folder, batch))
            for library, found in times.items():
                wall, used = map(Spread, zip(*found, strict=True))
                print(f"| {batch} | {library} | {wall:.1f} | {used.median:.1f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in LIBRARIES:
        library, folder, batch = sys.argv[1:]
        images = np.random.default_rng(0).uniform(0, 255, (int(batch), SIDE, SIDE, 3))
        labels = np.arange(int(batch))
        LIBRARIES[library](Path(folder), images.astype(np.float32), labels)
    else:
        main(tuple(map(int, sys.argv[1:])) or BATCHES)
