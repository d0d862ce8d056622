"""Train a tiny image classifier."""

import argparse
from pathlib import Path

from tinyconv import cli, hosts
from tinyconv.cli.common import add_data
from tinyconv.errors import InputError

EXAMPLES = """
  tinyconv train --data digits --epoch 10 --augment
  tinyconv train --model tiniest --recipe tiniest_muon
  tinyconv train --model cifar10_tiny.keras --data photos
  tinyconv train --model test_vit3.r160_in1k --data photos
  tinyconv train --recipe mine.toml --set learning_rate=0.01 --set augment=crop,flip
  tinyconv train --resume models/20261125-120000-tiniest-cifar10 --epoch 100
"""
RESUMED = {"resume", "epochs"}  # the only arguments that are allowed with --resume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tinyconv.train` with the same names. They have no defaults."""
    parser.argument_default = argparse.SUPPRESS
    yes_or_no = argparse.BooleanOptionalAction
    add = parser.add_argument
    add(
        "--model",
        help="net to train, or FILE.keras, NET.TAG or hf://USER/NAME to start from (cifar10_tiny)",
    )
    add("--freeze", action="store_true", help="train only the head of FILE")
    add_data(parser, "cifar10", default=argparse.SUPPRESS)
    add(
        "--teacher",
        help="trained model that the net learns from: FILE.keras, NET, NET.TAG, hf://...",
    )
    add(
        "--recipe",
        help="how to train: a NAME of tinyconv recipes or FILE.toml (finetune a FILE, digits on "
        "digits, else the net's own)",
    )
    add(
        "--set",
        action="append",
        dest="settings",
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as learning_rate=0.01; repeatable",
    )
    add("--class-weights", metavar="balanced", help="weigh classes in the loss by their rarity")
    add("-e", "--epoch", "--epochs", type=int, dest="epochs", help="epochs in all (the recipe's)")
    add("-b", "--batch", type=int, dest="batch_size", help="images per step (the recipe's)")
    add("-a", "--augment", action=yes_or_no, help="augment the training images (the recipe's)")
    add("-t", "--tpu", nargs="?", const="local", help="a TPU: NAME, ZONE/NAME, grpc://... (local)")
    add("--devices", type=int, help="use at most so many GPUs of a machine (all)")
    add("--hosts", help="several machines, under JAX: HOST:PORT,HOST:PORT, the same on each")
    add("--host-index", type=int, help="index of this machine among --hosts, from 0 up")
    add("-m", "--mixed", action="store_true", help="train in mixed precision")
    add("--fast", action=yes_or_no, help="fused blocks on a CPU (yes)")
    add("--seed", type=int, help="seed of weights, order, dropout and augmentation (0)")
    add("--holdout", type=int, help="validate on this many training images, not on test (0)")
    add("--early-stop", type=int, metavar="N", help="stop N epochs after the best on the holdout")
    add("--keep", metavar="best", help="keep the best epoch on the holdout (last)")
    add("--calibrate", action="store_true", help="fit the temperature of the logits to the holdout")
    add("--tensorboard", action="store_true", help="write the metrics for TensorBoard, too")
    add("--out", type=Path, help="folder in which the run folder is made (models)")
    add("--resume", type=Path, metavar="RUN", help="resume an interrupted run folder")


def main(args: argparse.Namespace) -> None:
    given = {key: value for key, value in vars(args).items() if key != "main"}
    several = hosts.get(given.pop("hosts", None), given.pop("host_index", None))
    if several:
        hosts.supervise(lambda: _train(given, several), cli.run)
    else:
        _train(given, None)


def _train(given: dict, several: hosts.Hosts | None) -> None:
    if "resume" in given:
        if fixed := [name for name in given if name not in RESUMED]:
            raise InputError(f"{_flag(fixed[0])} cannot change on --resume; only --epoch can.")
        from tinyconv.training.train import resume

        resume(given["resume"], given.get("epochs"), several)
        return
    if "settings" in given:
        given["settings"] = dict(map(_setting, given["settings"]))
    from tinyconv.training.train import train

    train(**given, hosts=several)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text} has no value; give FIELD=VALUE.")
    return name.strip(), value.strip()


def _flag(name: str) -> str:
    """The flag that gives the argument `name`."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    action = next(action for action in parser._actions if action.dest == name)
    return next(flag for flag in action.option_strings if flag.startswith("--"))
