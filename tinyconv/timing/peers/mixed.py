"""The peer "mixed": the same net and training with `--mixed`."""

from tinyconv.timing.keras_stopwatch import KerasStopwatch


class Peer(KerasStopwatch):
    kind = "tinyconv in mixed precision"
    mixed = True
