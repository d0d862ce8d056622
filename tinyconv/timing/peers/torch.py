"""The peer "torch": the net's original in PyTorch, in eager mode and channels-last memory format.

The net runs on a GPU if Keras does. Its optimizer has the type of the recipe's optimizer. Images
are normalized in each step and not augmented.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.devices import Devices
from tinyconv.timing import torch_nets
from tinyconv.timing.stopwatch import INFERENCE_BATCH, Stopwatch


class Peer(Stopwatch):
    kind = "PyTorch"

    @classmethod
    def check(cls, name: str) -> None:
        torch_nets.get(name)

    def build(self) -> None:
        import torch

        self.torch = torch
        self.device = "cuda" if Devices().kind == "gpu" else "cpu"
        model = torch_nets.get(self.net.name)()
        self.model = model.to(self.device, memory_format=torch.channels_last)
        kind = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[self.recipe.optimizer]
        self.optimizer = getattr(torch.optim, kind)(self.model.parameters(), lr=1e-3)

    def train(self, steps: int, size: int, augment: bool = True) -> float:
        self.model.train()
        return self._time(self._step, steps, size)

    def infer(self, steps: int) -> float:
        self.model.eval()
        with self.torch.inference_mode():
            return self._time(lambda images, _: self._answer(images).cpu(), steps, INFERENCE_BATCH)

    def call(self) -> float:
        self.model.eval()
        image = np.zeros((1, *self.net.input_shape), np.uint8)
        start = time.perf_counter()
        with self.torch.inference_mode():
            self._answer(image).cpu()
        return time.perf_counter() - start

    def size(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.model.state_dict().values())

    def _answer(self, images: np.ndarray) -> Any:
        x = self.torch.from_numpy(images).to(self.device).movedim(-1, 1)
        return self.model(x / 127.5 - 1)

    def _step(self, images: np.ndarray, labels: np.ndarray) -> None:
        target = self.torch.from_numpy(labels).long().to(self.device)
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self._answer(images), target)
        loss.backward()
        self.optimizer.step()
        loss.item()  # waits for an accelerator to finish

    def _time(self, step: Callable, steps: int, size: int) -> float:
        """The seconds from the end of the first batch to the end of the last, as for Keras."""
        batches = self.batches(steps + 1, size)
        step(*batches[0])
        start = time.perf_counter()
        for index in range(1, steps + 1):
            step(*batches[index])
        return time.perf_counter() - start
