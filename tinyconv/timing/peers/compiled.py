"""The peer "compiled": the net's original in PyTorch, with `torch.compile`."""

from tinyconv.timing.peers.torch import Peer as Eager


class Peer(Eager):
    kind = "compiled PyTorch"

    def build(self) -> None:
        import torch._dynamo

        torch._dynamo.config.recompile_limit = 64  # for all shapes in training and inference
        super().build()
        self.model.compile()
