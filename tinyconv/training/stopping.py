"""When a training stops, and which epoch it keeps; what needs held-out images.

Both depend on the history alone. A resumed run therefore stops and keeps as an uninterrupted run.
"""

from typing import Any

from tinyconv.data import Dataset
from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.training.run import BEST, Run

History = list[dict[str, float]]


def check(run: Run, dataset: Dataset, devices: Devices) -> None:
    """Check that a run that stops early, keeps the best epoch or is calibrated can do it.

    Raises:
        InputError: the data have only test images to validate on, or there are several hosts.
    """
    flags = {
        "--early-stop": run.early_stop,
        "--keep best": run.keep == BEST,
        "--calibrate": run.calibrate,
    }
    flag = next((flag for flag, used in flags.items() if used), None)
    if flag and dataset.holdout is None:
        raise InputError(
            f"{flag} must not choose by the {dataset.test_name} images, on which the model is "
            "tested; add --holdout N, or give a folder with val/ beside test/."
        )
    if run.early_stop and devices.hosts > 1:
        raise InputError("--early-stop is for one machine; leave out --early-stop or --hosts.")


def best(history: History) -> int:
    """The best epoch, counted from 1.

    It is the first epoch with the highest validation accuracy and, among those, the lowest
    validation loss.
    """
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in history]
    return scores.index(max(scores)) + 1


def is_over(run: Run, history: History) -> bool:
    """Whether the training stops early after these epochs, as `keras.callbacks.EarlyStopping`."""
    if not run.early_stop or not history:
        return False
    return len(history) - best(history) >= run.early_stop


def outcome(run: Run, history: History) -> dict[str, Any]:
    """The entries of the last report: status, the epoch that is kept, and why the training ended.

    The epoch is None if a signal or a callback ended the training, and the run keeps the last one.
    """
    done = len(history)
    kept = best(history) if run.keep == BEST and history else None
    if is_over(run, history):
        status = "complete"
        why = (
            f"the validation did not improve in the {run.early_stop} epochs after epoch "
            f"{best(history)}"
        )
    elif done == run.epochs:
        status, why = "complete", f"all {done} epochs are done"
    else:
        status, why = "interrupted", "a signal or a callback ended the training"
    return {
        "status": status,
        "kept_epoch": kept or (done if status == "complete" else None),
        "stopped": why,
    }
