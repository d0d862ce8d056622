"""The one error that a person can mend."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something given is wrong: one sentence says what, and what would be right.

    Command lines print the sentence without a traceback and exit with 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a table, with the nearest name that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
    return InputError(f"Unknown {kind} {name!r}: {hint}")
