"""Starting and resuming of runs."""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from tinyconv import augment as augmentations
from tinyconv import data as datasets
from tinyconv import recipe_files, recipes, registry, saving
from tinyconv.atomic import check_writable, remove_partial
from tinyconv.devices import Devices
from tinyconv.errors import InputError
from tinyconv.hosts import Hosts
from tinyconv.recipe import Recipe
from tinyconv.trained import located, open_model, origin
from tinyconv.training import data_path, run_folder, stopping
from tinyconv.training.callbacks import EpochLog, Recorder, StartEpoch, StopOnSignal
from tinyconv.training.distillation import Teacher, open_teacher
from tinyconv.training.facts import folder_of
from tinyconv.training.head import with_head
from tinyconv.training.run import Run
from tinyconv.training.run_folder import RunFolder
from tinyconv.training.trainer import Trainer


def train(
    model: str | Path = "cifar10_tiny",
    data: str | Path = "cifar10",
    *,
    recipe: str | Path | Recipe | None = None,
    settings: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    augment: bool | None = None,
    out: str | Path = "models",
    hosts: Hosts | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    teacher: str | Path | None = None,
    **options: Any,
) -> Path:
    """Train a net, and write a run folder.

    The folder has `model.keras`, `history.csv`, `report.json`, `report.txt`, `curves.png`,
    `confusion.png` and `checkpoint.npz`, from which the run can be resumed. Each file is replaced
    atomically. Ctrl-C ends the training after the current batch. The model is then still saved and
    evaluated.

    Args:
        model: one of `tinyconv.list_models()`, or a model to fine-tune: a `.keras` file, one of
            `tinyconv.list_models(pretrained=True)`, or hf://USER/NAME.
        data: "cifar10", "cifar100", "digits", "tfds:NAME", "hf:OWNER/NAME", an `.npz` or `.csv`
            file, or a folder of images.
        recipe: the name of an entry of `tinyconv.recipes.RECIPES`, the path of a `.toml` file, or
            a `Recipe`. Default: "finetune" for a model to fine-tune, "digits" for the data
            "digits", or the recipe of the net.
        settings: fields of the recipe to change, such as `{"learning_rate": 0.01}`.
        epochs: the number of epochs. Default: as in the recipe.
        batch_size: images per step. Default: as in the recipe.
        augment: whether to augment the training images. Default: as in the recipe.
        out: the folder in which the run folder is made.
        hosts: the machines, if there are several. Each machine must call this function. Only the
            first machine writes files.
        callbacks: Keras callbacks. They are called after those of tinyconv, so that the `logs` at
            the end of an epoch have `val_accuracy` and `val_loss`.
        teacher: a trained model that the net learns from, as for `evaluate`. The loss is then the
            weighted mean of that of the labels and the distance from the outputs of the teacher,
            with the `teacher_weight` and the `temperature` of the recipe.
        **options: more arguments of `tinyconv.training.run.Run`, such as `seed`, `holdout`,
            `class_weights`, `early_stop`, `keep`, `calibrate`, `tensorboard`, `mixed`, `freeze`,
            `devices` and `tpu`.

    Returns:
        The path of the run folder.

    Raises:
        InputError: an argument is wrong, the arguments do not fit each other, `out` cannot be
            written, or the loss becomes infinite or NaN.

    Example:

    ```python
    folder = tinyconv.train("cifar10_tiny_half", "digits", epochs=1, batch_size=64)
    ```
    """
    model, data = located(str(model)), str(data)
    recipe = recipes.default(model, data) if recipe is None else recipe_files.find(recipe)
    recipe = recipe_files.changed(recipe, settings or {})
    run = Run(
        model=model,
        data=data,
        recipe=recipe,
        epochs=recipe.epochs if epochs is None else epochs,
        batch_size=recipe.batch_size if batch_size is None else batch_size,
        augment=recipe.always_augment if augment is None else augment,
        teacher=None if teacher is None else located(str(teacher)),
        **options,
    )
    _check_settings(settings or {}, run, epochs=epochs, batch_size=batch_size)
    return start(run, Path(out), hosts, callbacks)


def _check_settings(settings: Mapping[str, Any], run: Run, **arguments: int | None) -> None:
    """Check that the run uses each of the changed fields of the recipe.

    Raises:
        InputError: a field has no effect.
    """
    for name in settings:
        if arguments.get(name) is not None:
            raise InputError(
                f"A setting and an argument give the {name}; leave one of the two out."
            )
        if name in ("augment", "mixup", "cutmix") and not run.augment:
            raise InputError(f"The setting {name} needs augmentation; add --augment, too.")
        if name in ("teacher_weight", "temperature") and not run.teacher:
            raise InputError(f"The setting {name} needs a teacher; add --teacher, too.")


def start(
    run: Run,
    out: Path = Path("models"),
    hosts: Hosts | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> Path:
    """Start a run with these settings. The arguments are those of `train`.

    Returns:
        The path of the run folder.

    Raises:
        InputError: as for `train`.
    """
    augmentations.check(run.recipe.augment)
    if not hosts or hosts.index == 0:
        check_writable(out)
    devices = Devices(run.tpu, run.devices, hosts)
    trained = open_model(run.model) if run.starts_trained else None
    source = origin(run.model) if trained else None
    dataset = _load(run, trained and trained.model, devices)
    net = with_head(trained, dataset.class_names, run.model) if trained else None
    teacher = _teacher(run, dataset)
    _check_hosts_agree(run, net, dataset, devices, teacher)
    name = net.name if net else run.model
    trainer = Trainer(run.with_absolute_paths(), net, dataset, devices, teacher)
    path = out / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{dataset.name}"
    if devices.rank == 0:
        path = run_folder.new_folder(path)
    return _train(trainer, folder_of(trainer, path, source, []), 0, callbacks)


def _teacher(run: Run, dataset: datasets.Dataset) -> Teacher | None:
    return open_teacher(run.teacher, dataset.class_names) if run.teacher else None


def resume(
    path: str | Path,
    epochs: int | None = None,
    hosts: Hosts | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
) -> Path:
    """Resume a run that was interrupted, from its last complete epoch.

    Args:
        path: the run folder. Each of several `hosts` must be able to read it.
        epochs: the total number of epochs. Default: as at the start of the run.
        hosts: as for `train`.
        callbacks: as for `train`.

    Returns:
        The path of the run folder.

    Raises:
        InputError: `path` is not a run folder, its data no longer exist or have changed, or the
            loss becomes infinite or NaN.
    """
    path = Path(path)
    stored = run_folder.read(path)
    run_folder.check_known(stored.run, Run, path)
    facts, run = stored.facts, Run(**stored.run)
    augmentations.check(run.recipe.augment)
    if epochs is not None:
        run = replace(run, epochs=epochs)
    located = data_path.locate(run.data, facts.get("folder"), path)
    data_path.check(located, path)
    if not hosts or hosts.index == 0:
        check_writable(path)
        remove_partial(path)
    devices = Devices(run.tpu, run.devices, hosts)
    net = saving.load_model(path / run_folder.MODEL)
    dataset = _load(replace(run, data=located), net, devices)
    teacher = _teacher(run, dataset)
    _check_hosts_agree(run, net, dataset, devices, teacher)
    run = replace(run, data=data_path.absolute(located))
    if teacher and teacher.origin["sha256"] != facts["teacher"]["sha256"]:
        raise InputError(f"{run.teacher} is not the teacher that {path} was started with.")
    if facts["images"] != dataset.counts():
        raise InputError(
            f"{run.data} had {facts['images']} images when {path} was started, and has "
            f"{dataset.counts()}."
        )
    if facts["classes"] != list(dataset.class_names):
        raise InputError(f"{run.data} had other classes when {path} was started.")
    trainer = Trainer(run, net, dataset, devices, teacher)
    folder = folder_of(trainer, path, facts.get("started_from"), stored.history)
    done, state = folder.read_checkpoint()
    if done > run.epochs:
        raise InputError(f"{path} has {done} epochs, more than {run.epochs}.")
    try:
        trainer.restore(state)
    except ValueError as error:
        raise run_folder.unreadable(path / run_folder.CHECKPOINT) from error
    del folder.history[done:]
    return _train(trainer, folder, done, callbacks)


def _load(run: Run, net: keras.Model | None, devices: Devices) -> datasets.Dataset:
    if net:
        height, width, _ = net.input_shape[1:]
    else:
        height, width = datasets.SIZES.get(run.data, registry.get(run.model).input_shape[:2])
    dataset = datasets.load(run.data, (height, width), run.holdout, run.seed, run.data_range)
    stopping.check(run, dataset, devices)
    if run.tensorboard:
        EpochLog.check()
    if run.drops_remainder(devices) and len(dataset.train) < run.batch_size:
        raise InputError(
            f"The batch size is {run.batch_size}, but there are only {len(dataset.train)} "
            "training images and partial batches are dropped."
        )
    if run.batch_size % devices.count:
        raise InputError(
            f"The batch size is {run.batch_size}; on {devices.count} devices it must be a "
            f"multiple of {devices.count}."
        )
    return dataset


def _check_hosts_agree(
    run: Run,
    net: keras.Model | None,
    dataset: datasets.Dataset,
    devices: Devices,
    teacher: Teacher | None,
) -> None:
    if devices.hosts == 1:
        return
    weights = net and [zlib.crc32(weight) for weight in net.get_weights()]
    labels = dataset.train.labels.tolist()
    source = teacher and teacher.origin["sha256"]
    started = (asdict(run), weights, source, dataset.class_names, dataset.counts(), labels)
    if not devices.agree(zlib.crc32(json.dumps(started).encode())):
        raise InputError("The hosts differ in their arguments, models or data.")


def _train(
    trainer: Trainer,
    folder: RunFolder,
    done: int,
    callbacks: Iterable[keras.callbacks.Callback],
) -> Path:
    run, dataset, history = trainer.run, trainer.dataset, folder.history
    folder.save_report("running")
    recorder = Recorder(trainer, folder)
    every: list[keras.callbacks.Callback] = [StartEpoch(trainer), recorder, *callbacks]
    if run.tensorboard and folder.writes:
        every.insert(2, EpochLog(folder.path))
    if trainer.devices.hosts == 1:  # one stopped host would make the others wait
        every.append(StopOnSignal())
    trainer.batches.start_epoch(max(done - 1, 0))  # `update_net` reads batches of the last epoch
    left = done < run.epochs and not stopping.is_over(run, history)
    which = f"epochs {done + 1} to {run.epochs}" if left else "no epoch is left"
    print(f"{folder.path}: {folder.title}, {which}", flush=True)
    if left:
        trainer.fit(done, every)
    if recorder.diverged:
        folder.save_report("diverged")
        raise InputError(
            f"The loss became {recorder.diverged} in epoch {len(history) + 1}; "
            f"{folder.path} keeps the {len(history)} epochs before; "
            "lower the learning rate or train in float32."
        )
    if trainer.best:
        trainer.use_best()
    else:
        trainer.update_net()
    temperature = trainer.calibrate() if run.calibrate else None
    folder.save_model(trainer.net)
    if folder.writes:
        print(f"Evaluating on the training and the {dataset.test_name} images")
        train, test = trainer.evaluate(dataset.train), trainer.evaluate(dataset.test)
        images = min(len(trainer.batches) * run.batch_size, len(dataset.train))
        facts = stopping.outcome(run, history) | {"temperature": temperature}
        folder.finish(facts, train, test, images)
    return folder.path
