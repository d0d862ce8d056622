"""The peer "keras": the same net and training with stock layers, without fused blocks."""

from tinyconv.timing.keras_stopwatch import KerasStopwatch


class Peer(KerasStopwatch):
    kind = "plain Keras"
    fuse = False
