"""Time tiny image classifiers on this machine: python timing.py --model cifar10_tiny

The same as `tinyconv time`.
"""

import sys

from tinyconv import cli

if __name__ == "__main__":
    cli.main(["time", *sys.argv[1:]])
