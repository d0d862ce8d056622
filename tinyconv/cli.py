"""What the command lines share."""

import os
import sys
from collections.abc import Callable

from tinyconv.errors import InputError


def run(main: Callable[[], None]) -> None:
    """Call `main`; on bad input print its one sentence and exit with 2, on Ctrl-C with 130."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        sys.exit(130)
