"""Train a tiny image classifier: python train.py --epoch 10 --augment"""

import argparse
import os
import sys
from pathlib import Path

from tinyconv.errors import InputError

FROM_RUN = ("model", "data", "recipe", "batch", "augment", "seed", "holdout", "mixed", "tpu", "out")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", help="net to train (default: cifar10_tiny)")
    add("--data", help="cifar10, cifar100, digits, FILE.npz or a FOLDER of images (cifar10)")
    add("--recipe", help="how to train (default: the net's own)")
    add("-e", "--epoch", type=int, help="epochs in all (default: the recipe's)")
    add("-b", "--batch", type=int, help="images per step (default: the recipe's)")
    add("-a", "--augment", action=argparse.BooleanOptionalAction, help="augment training images")
    add("-t", "--tpu", nargs="?", const="local", help="train on a TPU (name or address; local)")
    add("-m", "--mixed", action="store_true", default=None, help="train in mixed precision")
    add("--seed", type=int, help="of weights, order, dropout and augmentation (0)")
    add("--holdout", type=int, help="validate on this many training images, not on test (0)")
    add("--out", type=Path, help="where the run folder goes (models)")
    add("--resume", type=Path, metavar="RUN", help="go on with an interrupted run folder")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from tinyconv import recipes, registry, training

    if args.resume:
        if extra := [name for name in FROM_RUN if getattr(args, name) is not None]:
            raise InputError(f"--{extra[0]} cannot change on --resume; only --epoch can.")
        training.resume(args.resume, args.epoch)
        return
    net = registry.find(args.model or "cifar10_tiny")
    recipe = recipes.find(args.recipe or net.recipe)

    def chosen(value, default):
        return default if value is None else value

    run = training.Run(
        model=net.name,
        data=chosen(args.data, "cifar10"),
        recipe=recipe.name,
        epochs=chosen(args.epoch, recipe.epochs),
        batch_size=chosen(args.batch, recipe.batch_size),
        augment=chosen(args.augment, recipe.always_augment),
        seed=chosen(args.seed, 0),
        holdout=chosen(args.holdout, 0),
        mixed=bool(args.mixed),
        tpu=args.tpu,
    )
    training.train(run, chosen(args.out, Path("models")))


if __name__ == "__main__":
    arguments = parse()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        main(arguments)
    except InputError as error:
        print(f"train.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "train.py: stopped; --resume RUN goes on from the last complete epoch.", file=sys.stderr
        )
        sys.exit(130)
