"""Train a tiny image classifier: python train.py --epoch 10 --augment

The same as `tinyconv train`.
"""

import sys

from tinyconv import cli

if __name__ == "__main__":
    cli.main(["train", *sys.argv[1:]])
