"""Train a tiny image classifier: python train.py --epoch 10 --augment"""

import argparse
from pathlib import Path

from tinyconv import cli, hosts, recipes
from tinyconv.errors import InputError

FROM_RUN = ["model", "freeze", "data", "recipe", "batch", "augment", "tpu", "mixed", "seed"]
FROM_RUN += ["holdout", "out", "devices", "fast", "data_range"]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_version(parser)
    add = parser.add_argument
    add("--model", help="net to train, or a .keras FILE to start from (cifar10_tiny)")
    add("--freeze", action="store_true", default=None, help="train the head of FILE alone")
    add("--data", help="cifar10, cifar100, digits, FILE.npz or a FOLDER of images (cifar10)")
    cli.add_data_range(add)
    add("--recipe", help="how to train (finetune a FILE, digits on digits, else the net's own)")
    add("-e", "--epoch", type=int, help="epochs in all (default: the recipe's)")
    add("-b", "--batch", type=int, help="images per step (default: the recipe's)")
    add("-a", "--augment", action=argparse.BooleanOptionalAction, help="augment training images")
    add("-t", "--tpu", nargs="?", const="local", help="a TPU: NAME, ZONE/NAME, grpc://... (local)")
    add("--devices", type=int, help="use at most so many GPUs of a machine (all)")
    add("--hosts", help="several machines, under JAX: HOST:PORT,HOST:PORT, the same on each")
    add("--host-index", type=int, help="which of --hosts this machine is, from 0 up")
    add("-m", "--mixed", action="store_true", default=None, help="train in mixed precision")
    add("--fast", action=argparse.BooleanOptionalAction, help="fused blocks on a CPU (yes)")
    add("--seed", type=int, help="of weights, order, dropout and augmentation (0)")
    add("--holdout", type=int, help="validate on this many training images, not on test (0)")
    add("--out", type=Path, help="where the run folder goes (models)")
    add("--resume", type=Path, metavar="RUN", help="go on with an interrupted run folder")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    several = hosts.find(args.hosts, args.host_index)
    if several:
        hosts.watched(lambda: start(args, several))
    else:
        start(args, None)


def start(args: argparse.Namespace, several: hosts.Hosts | None) -> None:
    if args.resume:
        if extra := [name for name in FROM_RUN if getattr(args, name) is not None]:
            raise InputError(
                f"--{extra[0].replace('_', '-')} cannot change on --resume; only --epoch can."
            )
        from tinyconv import training

        training.resume(args.resume, args.epoch, several)
        return
    data = chosen(args.data, "cifar10")
    model = chosen(args.model, "cifar10_tiny")
    recipe = recipes.find(args.recipe) if args.recipe else recipes.default(model, data)
    from tinyconv import training

    run = training.Run(
        model=model,
        data=data,
        recipe=recipe.name,
        epochs=chosen(args.epoch, recipe.epochs),
        batch_size=chosen(args.batch, recipe.batch_size),
        augment=chosen(args.augment, recipe.always_augment),
        seed=chosen(args.seed, 0),
        holdout=chosen(args.holdout, 0),
        mixed=chosen(args.mixed, False),
        tpu=args.tpu,
        freeze=chosen(args.freeze, False),
        devices=args.devices,
        fast=chosen(args.fast, True),
        data_range=args.data_range,
    )
    training.train(run, chosen(args.out, Path("models")), several)


def chosen(value, default):
    """What was given on the command line, else the default."""
    return default if value is None else value


if __name__ == "__main__":
    cli.run(lambda: main(parse()))
