"""The peer "litert-int8": the peer "litert" in 8 bits."""

from tinyconv.timing.peers import litert


class Peer(litert.Peer):
    kind = "LiteRT int8"
    format = "litert-int8"
