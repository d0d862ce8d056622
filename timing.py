"""Time tiny image classifiers on this machine: python timing.py --model cifar10_tiny

The same as `tinyconv time`, with `--out` set to the folder `images` beside this file, unless the
measurement is `--quick`.
"""

import sys
from pathlib import Path

from tinyconv import cli

if __name__ == "__main__":
    images = Path(__file__).resolve().with_name("images")
    quick = cli.parse(["time", *sys.argv[1:]]).quick
    where = [] if quick else ["--out", str(images)]
    cli.main(["time", *where, *sys.argv[1:]])
