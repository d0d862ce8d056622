"""`python timing.py` times nets: `tinyconv.cli_time`."""

from tinyconv import cli
from tinyconv.cli_time import main, parse

if __name__ == "__main__":
    cli.run(lambda: main(parse()))
