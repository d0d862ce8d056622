"""The same net and training without fused blocks: what `fit` makes of the stock layers."""

from tinyconv.timing.keras_stopwatch import KerasStopwatch


class Peer(KerasStopwatch):
    kind = "plain Keras"
    fuse = False
