"""The error for wrong input."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An error in what the user gave.

    The message is one sentence that says what is wrong and what would be right. Command lines print
    it without a traceback and exit with 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Make the error for an unknown name, with the most similar known name.

    Args:
        kind: what the name is for, such as "net".
        name: the unknown name.
        known: all known names.

    Returns:
        The error, to be raised.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
    return InputError(f"Unknown {kind} {name!r}: {hint}")


def cause(error: Exception) -> str:
    """An error of another library, shortened to one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:150]
