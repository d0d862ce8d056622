"""Timing of training and inference of several nets on this machine.

Every figure is measured several times. A net and its peers take turns, so that a change in the
speed of the machine affects all of them. Each runs in its own process, without the threads of other
libraries. The median and the range of a figure are reported. A net trains as in
`tinyconv.training`, on random images, with fused blocks, the optimizer of the recipe and, if the
recipe always augments, augmentation.

`peers` has a module for each alternative that a net is compared with. Some only run exported files,
and have no figures of training.
"""

from tinyconv.timing.figures import Spread, Timing
from tinyconv.timing.worker import measure, steps

__all__ = ["Spread", "Timing", "measure", "steps"]
