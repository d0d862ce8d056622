"""`python -m tinyconv` is the console script `tinyconv`."""

from tinyconv.cli import main

main()
