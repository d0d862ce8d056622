"""Where images come from: TensorFlow Datasets, arrays on disk, a folder of images, digits.

Whatever the source, a `Dataset` holds raw RGB in uint8 at the size that the net wants, in memory
or, from a large folder, in a temporary file; `Batches` shuffles it and `feed` turns it into what
`keras.Model.fit` takes.
"""

import contextlib
import difflib
import math
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np
from PIL import Image, ImageOps

from tinyconv.errors import InputError

TFDS = ("cifar10", "cifar100")
SIZES = dict.fromkeys((*TFDS, "digits"), (32, 32))  # in pixels, to build a net for
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MAX_PIXELS = 50_000_000
MAX_CLASSES = 100_000
IN_MEMORY = 2 * 2**30  # bytes; a folder that is larger, once decoded, is kept on disk
CHUNK = 256  # images that are decoded side by side
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class OnDisk:
    """Images (N, H, W, 3) in uint8 in a file: an array, as far as indexing by rows goes.

    They are read, not mapped, so that they take no memory beyond the rows asked for.
    """

    def __init__(self, file: IO[bytes], rows: np.ndarray, shape: tuple[int, int, int]):
        self.file, self.rows = file, rows
        self.shape = (len(rows), *shape)

    def take(self, indices: np.ndarray) -> "OnDisk":
        """Some of them, in the same file."""
        return OnDisk(self.file, self.rows[indices], self.shape[1:])

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        size, number = math.prod(self.shape[1:]), self.file.fileno()
        rows = [os.pread(number, size, int(row) * size) for row in self.rows[indices]]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3) in uint8, raw RGB, and labels (N,) in int32, from 0 up."""

    images: np.ndarray | OnDisk
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        images = self.images
        images = images.take(indices) if isinstance(images, OnDisk) else images[indices]
        return Split(images, self.labels[indices])

    def some(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """At most `count` images and labels, evenly from start to end: folders go by class."""
        indices = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int)
        return self.images[indices], self.labels[indices]


@dataclass(frozen=True)
class Dataset:
    """A data set, split. `holdout` is the part taken out of the training images, if any."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    holdout: Split | None = None

    def counts(self) -> dict[str, int]:
        """How many images each split has."""
        splits = {"train": self.train, "holdout": self.holdout or (), "test": self.test}
        return {name: len(split) for name, split in splits.items()}


def load(spec: str, size: tuple[int, int], holdout: int = 0, seed: int = 0) -> Dataset:
    """Read a data set.

    Args:
        spec: "cifar10" or "cifar100" (by TensorFlow Datasets, which reads the environment variable
            TFDS_DATA_DIR); "digits" (scikit-learn's 1,797 handwritten digits, no download); the
            path of an `.npz` with x_train, y_train, x_test, y_test and perhaps class_names; or the
            path of a folder with one subfolder of images per class, perhaps under train/ and test/.
        size: (height, width) in pixels that every image is resized to.
        holdout: how many training images to set aside for validation, in the classes' proportions.
        seed: which ones.

    Raises:
        InputError: the source is not there, cannot be read, or holds something else.
    """
    if holdout < 0:
        raise InputError(f"The holdout is {holdout} images; it must be 0 or more.")
    if spec in TFDS:
        dataset = _load_tfds(spec)
    elif spec == "digits":
        dataset = _load_digits()
    elif Path(spec).is_dir():
        dataset = _load_folder(Path(spec), size)
    elif Path(spec).is_file():
        dataset = _load_npz(Path(spec))
    else:
        near = difflib.get_close_matches(spec, (*TFDS, "digits"), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "no such file or folder."
        known = "cifar10, cifar100, digits, FILE.npz or a FOLDER of images"
        raise InputError(f"Unknown data {spec!r} ({known}): {hint}")
    train, test = (
        Split(_resize(split.images, size), split.labels) for split in (dataset.train, dataset.test)
    )
    if not holdout:
        return Dataset(dataset.name, dataset.class_names, train, test)
    kept, held = _split_by_class(train.labels, holdout, seed)
    return Dataset(dataset.name, dataset.class_names, train.take(kept), test, train.take(held))


def is_here(spec: str) -> bool:
    """Whether `load` reads this data set without a download."""
    if spec in TFDS:
        import tensorflow_datasets as tfds

        return tfds.builder(spec).data_path.exists()
    return spec == "digits" or Path(spec).exists()


def _split_by_class(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all but `count` examples, and of `count` in the proportions of the classes."""
    from sklearn.model_selection import train_test_split

    classes = len(np.unique(labels))
    if np.bincount(labels)[np.unique(labels)].min() < 2:
        raise InputError("Every class needs at least two images, one of them to hold out.")
    if not classes <= count <= len(labels) - classes:
        raise InputError(
            f"Cannot hold out {count} of {len(labels)} images in {classes} classes; "
            f"it must be {classes} to {len(labels) - classes}."
        )
    kept, held = train_test_split(
        np.arange(len(labels)), test_size=count, stratify=labels, random_state=seed
    )
    return np.sort(kept), np.sort(held)


def _load_tfds(name: str) -> Dataset:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    where = tfds.core.constants.DATA_DIR
    if not builder.data_path.exists():
        try:
            # Without a network the downloader itself gives up only after minutes of retries.
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(builder.info.homepage, timeout=10).close()
            builder.download_and_prepare()
        except Exception as error:
            raise InputError(
                f"{name} is not prepared in {where} and cannot be downloaded ({_cause(error)}): "
                "go online, set TFDS_DATA_DIR to where it is, or use --data digits, "
                "--data FOLDER or --data FILE.npz."
            ) from error
    try:
        train, test = (builder.as_dataset(split=s, batch_size=-1) for s in ("train", "test"))
    except Exception as error:
        raise InputError(
            f"{name} in {where} cannot be read ({_cause(error)}): remove it to prepare it anew."
        ) from error
    return Dataset(
        name,
        tuple(builder.info.features["label"].names),
        *(Split(s["image"].numpy(), s["label"].numpy().astype(np.int32)) for s in (train, test)),
    )


def _cause(error: Exception) -> str:
    """An error of another library in a few words of one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:150]


def _load_digits() -> Dataset:
    """The first half to train on, the second to test on, as in scikit-learn's own example.

    The digits come writer by writer, so the test's hands were hardly seen in training.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=-1)
    labels = digits.target.astype(np.int32)
    half = len(labels) // 2
    return Dataset(
        "digits",
        tuple(str(name) for name in digits.target_names),
        Split(images[:half], labels[:half]),
        Split(images[half:], labels[half:]),
    )


def _load_npz(path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in (*ARRAYS, "class_names") if key in file}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("something other than an array")
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory; give a folder of images.") from error
    except Exception as error:  # what a damaged archive raises is anyone's guess
        raise InputError(
            f"{path} is not an .npz file of plain arrays; make it by np.savez."
        ) from error
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; it needs {', '.join(ARRAYS)}.")
    splits = []
    for part in ("train", "test"):
        x, y = f"x_{part}", f"y_{part}"
        images = _check_images(arrays[x], f"{x} in {path}")
        labels = _check_labels(arrays[y], len(images), f"{y} in {path}")
        splits.append(Split(images, labels))
    train, test = splits
    if "class_names" in arrays:
        names = _check_names(arrays["class_names"], f"class_names in {path}")
    else:
        names = tuple(map(str, range(int(train.labels.max()) + 1)))
        if empty := sorted(set(range(len(names))) - set(train.labels.tolist())):
            raise InputError(
                f"y_train in {path} goes up to {len(names) - 1}, but has no {empty[0]}; "
                "labels count up from 0, or class_names says what they are."
            )
    for part, split in (("train", train), ("test", test)):
        if split.labels.max() >= len(names):
            raise InputError(
                f"y_{part} in {path} has label {split.labels.max()}; "
                f"with {len(names)} classes labels are 0 to {len(names) - 1}."
            )
    return Dataset(text(path.stem), names, train, test)


def _check_names(names: np.ndarray, what: str) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise InputError(f"{what} has shape {names.shape}; it is a list of strings, one per class.")
    try:
        found = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
    except (ValueError, SystemError) as error:  # bytes and code points that are no text
        raise InputError(f"{what} is damaged; it is a list of strings, one per class.") from error
    if len(set(found)) < len(found):
        raise InputError(f"{what} has a name twice; every class needs one of its own.")
    return found


def _check_images(images: np.ndarray, what: str) -> np.ndarray:
    """Images of any real type in 0..255, grey or RGB, as (N, H, W, 3) in uint8."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{what} has shape {images.shape}; images are (N, height, width, 3), or grey ones "
            "(N, height, width)."
        )
    if images.dtype.kind not in "uif":
        raise InputError(f"{what} is of type {images.dtype}; images are numbers in 0..255.")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        raise InputError(f"{what} runs from {low} to {high}; images are numbers in 0..255.")
    if images.dtype.kind == "f" and high <= 1:
        raise InputError(
            f"{what} runs from {low} to {high}; multiply by 255: images are in 0..255."
        )
    if images.dtype != np.uint8:
        images = np.rint(images).astype(np.uint8)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def _check_labels(labels: np.ndarray, count: int, what: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise InputError(f"{what} has shape {labels.shape}; {count} images need ({count},).")
    if labels.dtype.kind not in "ui":
        raise InputError(f"{what} is of type {labels.dtype}; labels are integers from 0 up.")
    for label in (labels.min(), labels.max()):
        if not 0 <= label < MAX_CLASSES:
            raise InputError(f"{what} has label {label}; labels are 0 to {MAX_CLASSES - 1}.")
    return labels.astype(np.int32)


def _load_folder(folder: Path, size: tuple[int, int]) -> Dataset:
    parts = [part for part in ("train", "test") if (folder / part).is_dir()]
    if len(parts) == 1:
        raise InputError(
            f"{folder} has {parts[0]}/ alone; it needs both train/ and test/, or neither."
        )
    if parts:
        train_files, test_files = (_list_images(folder / part) for part in parts)
        if unseen := sorted(set(test_files) - set(train_files)):
            raise InputError(
                f"{folder}/test has class {unseen[0]!r}, which {folder}/train has not."
            )
        names = tuple(train_files)
        train, test = (_read_images(files, names, size) for files in (train_files, test_files))
    else:
        files = _list_images(folder)
        names = tuple(files)
        everything = _read_images(files, names, size)
        count = max(len(names), len(everything) // 5)
        kept, held = _split_by_class(everything.labels, count, seed=0)
        train, test = everything.take(kept), everything.take(held)
    return Dataset(text(folder.resolve().name), tuple(map(text, names)), train, test)


def text(name: str | Path) -> str:
    """A file's name as text that can be written: it may be of bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _list_images(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both in alphabetical order."""
    classes = {
        subfolder.name: image_files(subfolder)
        for subfolder in sorted(folder.iterdir())
        if subfolder.is_dir() and not subfolder.name.startswith(".")
    }
    if not any(classes.values()):
        raise InputError(f"{folder} has no images; it needs one subfolder of images per class.")
    if empty := [name for name, files in classes.items() if not files]:
        raise InputError(f"{folder / empty[0]} has no images; remove it or fill it.")
    return classes


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and below, in alphabetical order."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def _read_images(
    classes: dict[str, list[Path]], names: tuple[str, ...], size: tuple[int, int]
) -> Split:
    files = [file for name in classes for file in classes[name]]
    labels = [names.index(name) for name in classes for _ in classes[name]]
    shape = (*size, 3)
    on_disk = len(files) * math.prod(shape) > IN_MEMORY
    images = np.empty((0 if on_disk else len(files), *shape), np.uint8)
    stored = tempfile.TemporaryFile() if on_disk else None  # noqa: SIM115 - goes with the last Split
    progress = keras.utils.Progbar(len(files), unit_name="image", verbose=sys.stdout.isatty())
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(files), CHUNK):
            chunk = files[start : start + CHUNK]
            decoded = list(threads.map(read_image, chunk, [size] * len(chunk)))
            if stored:
                _append(stored, decoded)
            else:
                images[start : start + len(chunk)] = decoded
            progress.update(start + len(chunk))
    if stored:
        return Split(OnDisk(stored, np.arange(len(files)), shape), np.array(labels, np.int32))
    return Split(images, np.array(labels, np.int32))


def _append(file: IO[bytes], images: list[np.ndarray]) -> None:
    try:
        for image in images:
            file.write(image.tobytes())
        file.flush()
    except OSError as error:
        raise InputError(
            f"The decoded images do not fit into {tempfile.gettempdir()} ({error.strerror}); set "
            "TMPDIR to a folder on a larger disk."
        ) from error


def read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """One image file of any common format as (height, width, 3) in uint8, raw RGB.

    What is transparent is seen on white.

    Raises:
        InputError: it is no image, is damaged, or has more than 50 million pixels.
    """
    try:
        with Image.open(path) as image:
            if math.prod(image.size) > MAX_PIXELS:
                raise InputError(
                    f"{path} has {math.prod(image.size):,} pixels; at most {MAX_PIXELS:,} are read."
                )
            upright = ImageOps.exif_transpose(image)
            if upright.mode[0] in "IF":  # beyond 8 bits Pillow would cut off, not scale
                if upright.mode == "F" or (upright.mode == "I" and image.format != "PNG"):
                    raise InputError(f"{path} has 32 bits a pixel; save it with 8 or 16.")
                levels = np.asarray(upright, np.float32) / 257
                upright = Image.fromarray(np.rint(levels).astype(np.uint8))
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright)
            return _resize_one(upright.convert("RGB"), size)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has too many pixels; at most {MAX_PIXELS:,} are read.") from error
    except Exception as error:  # what a damaged image raises is anyone's guess
        raise InputError(f"{path} cannot be read as an image; replace or remove it.") from error


def _resize_one(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _resize(images: np.ndarray | OnDisk, size: tuple[int, int]) -> np.ndarray | OnDisk:
    if isinstance(images, OnDisk) or images.shape[1:3] == size:
        return images
    return np.stack([_resize_one(Image.fromarray(image), size) for image in images])


class Batches(keras.utils.PyDataset):
    """Batches of a split: images (B, H, W, 3) in uint8 and labels (B,) in int32.

    With `seed`, the order is drawn anew for every `epoch` from (seed, epoch), so that a run that
    is resumed goes on as if it had never stopped; without, it is the split's own.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int | None = None, drop_remainder: bool = False
    ):
        super().__init__()
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.steps = (
            len(split) // batch_size if drop_remainder else math.ceil(len(split) / batch_size)
        )
        self.order = np.arange(len(split))
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if self.seed is not None:
            self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.split))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self.order[index * self.batch_size :][: self.batch_size]
        return self.split.images[rows], self.split.labels[rows]


class AugmentedBatches(keras.utils.PyDataset):
    """`batches`, each passed through `augment(step, images, labels)`; steps count over epochs.

    Several hosts each take their `share` of every batch, out of the whole: the draws of an
    augmentation depend on the size of the batch, and mixup on the other images.
    """

    def __init__(self, batches: Batches, augment: Callable | None, share: slice | None = None):
        super().__init__()
        self.batches, self.augment, self.share = batches, augment, share

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        step, images, labels = self.numbered(index)
        if self.augment:
            images, labels = self.augment(step, images, labels)
        return (images, labels) if self.share is None else (images[self.share], labels[self.share])

    def numbered(self, index: int) -> tuple[Any, Any, Any]:
        step = self.batches.epoch * len(self.batches) + index
        return np.int32(step), *self.batches[index]


def feed(
    batches: Batches, augment: Callable | None = None, share: slice | None = None
) -> keras.utils.PyDataset | Any:
    """What `fit` takes: `batches`, augmented anew each time by a compiled function.

    On TensorFlow the function runs in a `tf.data` pipeline, beside the training step (and on the
    host of a TPU); on JAX it runs on the device, batch by batch. On JAX several hosts each feed
    their `share` of every batch.
    """
    if augment is None:
        return batches if share is None else AugmentedBatches(batches, None, share)
    if keras.backend.backend() == "jax":
        import jax

        return AugmentedBatches(batches, jax.jit(augment), share)
    import tensorflow as tf

    augmented = AugmentedBatches(batches, augment)

    def generate() -> Iterator:
        return (augmented.numbered(index) for index in range(len(augmented)))

    shape = batches.split.images.shape[1:]
    signature = (
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec((None, *shape), tf.uint8),
        tf.TensorSpec((None,), tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(augmented)))
    return dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
