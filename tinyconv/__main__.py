"""`python -m tinyconv` runs the console script `tinyconv`."""

from tinyconv.cli import main

main()
