"""The stopwatch of an engine that runs an exported file. It times inference alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv import exporters, terminal, trained
from tinyconv.errors import InputError
from tinyconv.factory import create_model
from tinyconv.machine import cores
from tinyconv.timing.stopwatch import Stopwatch

CALIBRATION = 20  # random images for 8 bits


class Exported(Stopwatch):
    """Times a file of `tinyconv.exporters` on all cores.

    A net that ships is timed with its weights, because weights change the speed of 8-bit files:
    LiteRT ran the file of an untrained `cifar10_tiny` in 0.85 times the CPU time.

    Attributes:
        format: the name of the format of the file.
        options: more arguments of the format's `load`.
    """

    format: str
    options: dict[str, Any] = {}  # noqa: RUF012

    @classmethod
    def check(cls, name: str) -> None:
        super().check(name)
        exporters.get(cls.format)

    @classmethod
    def prepare(cls, name: str, folder: Path) -> None:
        path = folder / f"{name}-{cls.format}"
        if path.exists():  # another peer runs the same file
            return
        model = create_model(name, pretrained=name in trained.shipped())
        shape = (CALIBRATION, *model.input_shape[1:])
        images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        form = exporters.get(cls.format)
        try:
            with terminal.held_back(), terminal.without_misleading_logs():
                form.write(model, path, images)
                form.load(path)
        except Exception as error:  # converters and runtimes raise errors of many types
            said = " ".join(str(error).split())[:200]
            raise InputError(
                f"{name} cannot be timed as {cls.format} ({type(error).__name__}: {said}); leave "
                f"{cls.__module__.rpartition('.')[2].replace('_', '-')} out of --compare."
            ) from error

    def __init__(self, name: str, batch_sizes: Sequence[int], seconds: float, folder: Path):
        super().__init__(name, (), seconds, folder)

    def build(self) -> None:
        self.path = self.folder / f"{self.net.name}-{self.format}"
        load = exporters.get(self.format).load
        with terminal.held_back():
            self.runtime = load(self.path, threads=cores(), **self.options)

    def train(self, steps: int, size: int, augment: bool = True) -> float:
        raise NotImplementedError(f"{self.kind} does not train.")

    def answer(self, images: np.ndarray) -> np.ndarray:
        return self.runtime(images)

    def size(self) -> int:
        files = (self.path, *self.path.rglob("*"))
        return sum(file.stat().st_size for file in files if file.is_file())
