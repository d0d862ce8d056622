"""The peer "torch-bf16": the peer "torch" under `torch.autocast` to bfloat16."""

from typing import Any

import numpy as np

from tinyconv.timing.peers import torch


class Peer(torch.Peer):
    kind = "PyTorch bf16"

    def logits(self, images: np.ndarray) -> Any:
        with self.torch.autocast(self.device, dtype=self.torch.bfloat16):
            return super().logits(images).float()
