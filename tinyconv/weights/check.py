"""Fetch all published weights, and report: python -m tinyconv.weights.check [PATTERN]

The script downloads each file or finds it in the cache, checks its digest, and loads its tensors
into the net. If CIFAR-10 or CIFAR-100 is prepared on the machine, the script evaluates the weights
for it and compares the accuracy with the published figure. If a line does not say "right", the exit
status is 1.
"""

import argparse
import sys

from tinyconv import cli, registry
from tinyconv.errors import InputError

TOLERANCE = 0.05  # percentage points: sources round


def check(name: str) -> tuple[bool, str]:
    """Check the weights called `name`, as NET.TAG.

    Returns:
        Whether all that could be checked is right, and a line that says what was checked.
    """
    from tinyconv import api, data
    from tinyconv.factory import create_model

    try:
        weights = registry.weights(name)
        assert weights
        create_model(name, pretrained=True)
        where = weights.accuracy.data
        if where == "imagenet" or not data.is_here(where):
            return True, f"{name}: right, but its accuracy on {where} was not measured"
        found = 100 * api.evaluate(name, where).accuracy
        said = f"{found:.2f}% of {where}, published {weights.accuracy.percent:.2f}%"
        right = abs(found - weights.accuracy.percent) <= TOLERANCE
        return right, f"{name}: {'right' if right else 'WRONG'}, {said}"
    except InputError as error:
        return False, f"{name}: FAILED, {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0].partition(":")[0])
    parser.add_argument("pattern", nargs="?", default="*", help="pattern of NET.TAG, as in a shell")
    names = registry.list_models(parser.parse_args().pattern, pretrained=True)
    wrong = 0
    for name in names:
        if registry.weights(name):
            right, line = check(name)
            wrong += not right
            print(line, flush=True)
    print(f"{wrong} wrong or failed")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    cli.run(main)
