"""The peer "compiled-bf16": the peer "torch-bf16" with `torch.compile`."""

from tinyconv.timing.peers import compiled, torch_bf16


class Peer(torch_bf16.Peer, compiled.Peer):
    kind = "compiled PyTorch bf16"
