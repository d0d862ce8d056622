"""Labels of an `.npz` file, converted to integers and class names.

The file may have integers, one-hot rows or names.
"""

from pathlib import Path

import numpy as np

from tinyconv.errors import InputError

MAX_CLASSES = 100_000
PARTS = ("y_train", "y_test")
Labels = dict[str, np.ndarray]


def read_labels(
    arrays: Labels, counts: dict[str, int], path: Path
) -> tuple[tuple[str, ...], list[np.ndarray], list[str]]:
    """Convert the labels of a file to integers.

    Args:
        arrays: y_train and y_test, and class_names if the file has them.
        counts: the number of training images under "y_train", and of test images under "y_test".
        path: the file, for messages.

    Returns:
        The class names, the training and test labels (N,) in int32, and a line for each assumption.

    Raises:
        InputError: the arrays are not labels, do not fit the images, or do not fit each other.
    """
    names = None
    if "class_names" in arrays:
        names = _strings(arrays["class_names"], f"class_names in {path}")
        if len(set(names)) < len(names):
            raise InputError(
                f"class_names in {path} has a name twice; every class needs one of its own."
            )
    labels = {part: _one_each(arrays[part], counts[part], f"{part} in {path}") for part in PARTS}
    notes: dict[str, list[str]] = {}
    if any(array.dtype.kind in "US" for array in labels.values()):
        names, labels = _by_name(labels, names, path)
        order = "class_names" if "class_names" in arrays else "the alphabet"
        notes = {f"names; classes are in the order of {order}": list(PARTS)}
    else:
        columns = {array.shape[1] for array in labels.values() if array.ndim == 2}
        sizes = columns | {len(names)} if names and columns else columns
        if len(sizes) > 1:
            raise InputError(
                f"The one-hot labels and class_names in {path} are for "
                f"{' and '.join(map(str, sorted(sizes)))} classes; these must agree."
            )
        for part, array in labels.items():
            labels[part], note = _to_integers(array, f"{part} in {path}")
            if note:
                notes.setdefault(note, []).append(part)
        if not names:
            names = _numbers(labels, columns, path)
    _check_classes(labels, names, path)
    said = [f"{' and '.join(parts)}: {note}" for note, parts in notes.items()]
    return names, [labels[part].astype(np.int32) for part in PARTS], said


def _strings(array: np.ndarray, what: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise InputError(f"{what} has shape {array.shape}; it is a list of strings, one per class.")
    try:
        found = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in array)
        for name in found:
            name.encode()
    except (ValueError, SystemError) as error:  # bytes or code points that are not text
        raise InputError(f"{what} is damaged; its strings must be UTF-8 text.") from error
    if not all(name.strip() for name in found):
        raise InputError(f"{what} has an empty string; every class needs a name.")
    return found


def _one_each(labels: np.ndarray, count: int, what: str) -> np.ndarray:
    """Labels of shape (N,), or (N, classes) if they may be one-hot."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    rows = labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "buif"
    if len(labels.shape) == 0 or len(labels) != count or not (labels.ndim == 1 or rows):
        raise InputError(
            f"{what} has shape {labels.shape}; {count} images need ({count},), or one-hot labels "
            f"of shape ({count}, classes)."
        )
    if labels.dtype.kind not in "buifUS":
        raise InputError(
            f"{what} is of type {labels.dtype}; labels are integers from 0 up, or names."
        )
    return labels


def _by_name(
    labels: Labels, names: tuple[str, ...] | None, path: Path
) -> tuple[tuple[str, ...], Labels]:
    for part, array in labels.items():
        if array.dtype.kind not in "US":
            raise InputError(
                f"{part} in {path} is of numbers, but the other labels are names; both must be "
                "names, or both numbers."
            )
    texts = {part: _strings(array, f"{part} in {path}") for part, array in labels.items()}
    known = names or tuple(sorted(set(texts["y_train"])))
    index = {name: i for i, name in enumerate(known)}
    for part, found in texts.items():
        if unknown := sorted(set(found) - set(known)):
            where = "class_names" if names else "y_train"
            raise InputError(
                f"{part} in {path} has the label {unknown[0]!r}, which {where} does not have."
            )
    return known, {part: np.array([index[n] for n in found]) for part, found in texts.items()}


def _to_integers(labels: np.ndarray, what: str) -> tuple[np.ndarray, str]:
    """Convert labels to (N,) in int64.

    Returns:
        The labels, and a description of the assumption, or "".
    """
    if labels.ndim == 2:
        if not (np.isin(labels, (0, 1)).all() and (np.count_nonzero(labels, axis=1) == 1).all()):
            raise InputError(
                f"{what} has shape {labels.shape} but is not one-hot; every image must have "
                "exactly one class, by one 1 among zeros."
            )
        return labels.argmax(axis=1), "one-hot rows; the class is where the 1 is"
    if labels.dtype.kind == "b":
        return labels.astype(np.int64), "bool; False is class 0, True class 1"
    for label in (labels.min(), labels.max()):
        if not 0 <= label < MAX_CLASSES:
            raise InputError(f"{what} has label {label}; labels are 0 to {MAX_CLASSES - 1}.")
    if labels.dtype.kind == "f":
        if (broken := labels[labels != np.rint(labels)]).size:
            raise InputError(f"{what} has label {broken[0]:g}; labels are whole numbers.")
        return labels.astype(np.int64), f"{labels.dtype} of whole numbers, read as integers"
    return labels.astype(np.int64), ""


def _numbers(labels: Labels, columns: set[int], path: Path) -> tuple[str, ...]:
    """The numbers of the classes as their names. Every class must have training images."""
    train, test = labels["y_train"], labels["y_test"]
    count = max(columns, default=int(train.max()) + 1)
    if missing := sorted(set(range(count)) - set(train.tolist())):
        if missing == [0] and test.min() > 0 and not columns:
            raise InputError(
                f"y_train in {path} counts from 1 to {count - 1}, but has no 0; labels count from "
                "0: subtract 1."
            )
        raise InputError(
            f"y_train in {path} goes up to {count - 1}, but has no {missing[0]}; "
            "labels count up from 0, or class_names says what they are."
        )
    return tuple(map(str, range(count)))


def _check_classes(labels: Labels, names: tuple[str, ...], path: Path) -> None:
    for part, array in labels.items():
        if array.max() >= len(names):
            hint = ": subtract 1 if they count from 1" if array.min() == 1 else ""
            raise InputError(
                f"{part} in {path} has label {array.max()}; "
                f"with {len(names)} classes labels are 0 to {len(names) - 1}{hint}."
            )
    trained = set(labels["y_train"].tolist())
    if unseen := sorted(set(labels["y_test"].tolist()) - trained):
        raise InputError(
            f"y_test in {path} has class {names[unseen[0]]!r}, of which y_train has no image."
        )
