"""A pause of Python's garbage collector.

The import of TensorFlow and the building of a net make hundreds of thousands of objects that stay.
The collector looks at them again and again, which takes a quarter of the time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """A context, or a decorator, in which objects are not collected."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
