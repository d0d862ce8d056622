"""The peer "torch": the net's original in PyTorch, in eager mode and channels-last memory format.

The net runs on a GPU if Keras does. Its optimizer has the type of the recipe's optimizer. Images
are normalized in each step and not augmented.
"""

from typing import Any

import numpy as np

from tinyconv.devices import Devices
from tinyconv.timing import torch_nets
from tinyconv.timing.stopwatch import Stopwatch

OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}  # of the nets' recipes


class Peer(Stopwatch):
    kind = "PyTorch"
    library = "torch"

    @classmethod
    def check(cls, name: str) -> None:
        torch_nets.get(name)

    def build(self) -> None:
        import torch

        self.torch = torch
        self.device = "cuda" if Devices().kind == "gpu" else "cpu"
        model = torch_nets.get(self.net.name)().eval()
        self.model = model.to(self.device, memory_format=torch.channels_last)
        kind = getattr(torch.optim, OPTIMIZERS[self.recipe.optimizer])
        self.optimizer = kind(self.model.parameters(), lr=1e-3)

    def train(self, steps: int, size: int, augment: bool = True) -> float:
        self.model.train()
        seconds = self._time(self._step, steps, size)
        self.model.eval()
        return seconds

    def answer(self, images: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            return self.logits(images).cpu().numpy()

    def size(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.model.state_dict().values())

    def logits(self, images: np.ndarray) -> Any:
        """The logits of images in uint8, as a tensor in float32."""
        x = self.torch.from_numpy(images).to(self.device).movedim(-1, 1)
        return self.model(x / 127.5 - 1)

    def _step(self, images: np.ndarray, labels: np.ndarray) -> None:
        target = self.torch.from_numpy(labels).long().to(self.device)
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.logits(images), target)
        loss.backward()
        self.optimizer.step()
        loss.item()  # waits for an accelerator to finish
