"""How fast nets train and answer on this machine, measured side by side.

Every figure is taken several times, and the nets take turns: a machine that slows down slows all of
them. Each net runs in a process of its own, where no other library's threads disturb it. The median
and the range of a figure are reported. A net trains as `tinyconv.training` trains it, on random
images, with fused blocks, the recipe's optimizer and, if the recipe always augments, augmentation.

`peers` holds what a net is compared with, one file for each peer.
"""

from tinyconv.timing.figures import Spread, Timing
from tinyconv.timing.worker import measure, steps

__all__ = ["Spread", "Timing", "measure", "steps"]
