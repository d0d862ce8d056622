"""Feed the loaders damaged files and the command line odd flags: python tests/fuzz.py SECONDS

Each door takes what hypothesis makes of good inputs; it must return, or raise `InputError` of one
line, within seconds. Every round runs in a process of its own, so that a crash of a library is
found, too; the input that was tried last is kept.
"""

import contextlib
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
from PIL import Image

ROUND = 60  # seconds
SLOW = 10  # seconds that no input may take
MEMORY = 8 * 2**30  # bytes of address space

SPLICES = [b"", b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"PK\x03\x04", b"'", b"[", b"{}"]
SPLICES += [b"-1", b"99999999999999999999", b"null", b"1e999", b"NaN", b'"', b"O8", b"\x89HDF"]


@st.composite
def damaged(draw, seeds: list[bytes]) -> bytes:
    """One of `seeds` with some bytes changed, taken out, doubled or put in."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        if draw(st.booleans()):  # headers are where readers go wrong
            at %= 256
        length = draw(st.sampled_from([0, 1, 1, 2, 4, 64, 4096]))
        kind = draw(st.sampled_from(["flip", "cut", "splice", "random", "double", "end"]))
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at : at + length]
        elif kind == "splice":
            content[at : at + length] = draw(st.sampled_from(SPLICES))
        elif kind == "random":
            content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "double":
            content[at:at] = content[at : at + length]
        else:
            del content[at:]
    return bytes(content)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def with_one_damaged(members: dict[str, bytes]) -> st.SearchStrategy[bytes]:
    """An archive whole as such, but with one member damaged: checksums let nothing else by."""
    return st.sampled_from(sorted(members)).flatmap(
        lambda name: damaged([members[name]]).map(lambda new: archive(members | {name: new}))
    )


ODD_ARRAYS = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from(["u1", "i1", "i8", "u8", "f2", "f8", "c8", "?", "S3", "U3", "M8[s]"]),
    st.sampled_from([0, 1, 2, 255, 256, -1, 10**6, 2**63 - 1]),
)


def npz_door(folder: Path):
    from tinyconv import data

    good = {f"{k}_{part}.npy": npy(v) for part in ("train", "test") for k, v in SMALL.items()}
    good["class_names.npy"] = npy(np.array(["a", "b"]))
    odd = st.tuples(st.sampled_from(sorted(good)), ODD_ARRAYS).map(
        lambda pair: archive(good | {pair[0]: npy(pair[1])})
    )

    def door(content: bytes) -> None:
        (folder / "x.npz").write_bytes(content)
        dataset = data.load(str(folder / "x.npz"), (8, 8))
        for split in (dataset.train, dataset.test):
            assert split.images.dtype == np.uint8 and split.images.shape[1:] == (8, 8, 3)
            assert split.labels.max() < len(dataset.class_names)

    return with_one_damaged(good) | damaged([archive(good)]) | odd, door


SMALL = {"x": np.arange(4 * 48, dtype=np.uint8).reshape(4, 4, 4, 3), "y": np.array([0, 1, 0, 1])}


def image_door(folder: Path):
    from tinyconv import data

    seeds = []
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, mode in (
        *[(kind, "RGB") for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")],
        *[("PNG", mode) for mode in ("P", "LA", "I;16", "1")],
        ("TIFF", "CMYK"),
        ("TIFF", "F"),
        ("TIFF", "I;16"),
        ("JPEG", "CMYK"),
    ):
        buffer = io.BytesIO()
        image = Image.new("I;16", (7, 9)) if mode == "I;16" else picture.convert(mode)
        image.save(buffer, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}))
        seeds.append(buffer.getvalue())

    def door(content: bytes) -> None:
        (folder / "x.png").write_bytes(content)
        image = data.read_image(folder / "x.png", (8, 6))
        assert image.shape == (8, 6, 3) and image.dtype == np.uint8

    return damaged(seeds), door


def safetensors_door(folder: Path):
    from safetensors.numpy import save

    from tinyconv import create_model, weights
    from tinyconv.errors import InputError

    model = create_model("resnet20")
    path = folder / "x.safetensors"
    weights.save_torch(model, path)
    small = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float16)})

    def door(content: bytes) -> None:
        path.write_bytes(content)
        state = weights.read(path)
        assert all(isinstance(array, np.ndarray) for array in state.values())
        with contextlib.suppress(InputError):
            weights.num_classes("resnet20", state)
        weights.load_torch(model, state)

    return damaged([path.read_bytes(), small, small]), door


def pt_door(folder: Path):
    import torch

    from tinyconv import weights

    path = folder / "x.pt"
    torch.save({"a": torch.zeros(2, 3), "b": torch.zeros(4).half()}, path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    torch.save({"a": torch.zeros(2, 3)}, path, _use_new_zipfile_serialization=False)
    legacy = path.read_bytes()

    def door(content: bytes) -> None:
        path.write_bytes(content)
        assert all(isinstance(array, np.ndarray) for array in weights.read(path).values())

    return with_one_damaged(members) | damaged([legacy, archive(members)]), door


def csv_door(folder: Path):
    from tinyconv import data

    names = [f"{label}{i}.png" for label in "ab" for i in range(5)]
    for i, name in enumerate(names):
        Image.new("L", (8, 8), i).save(folder / name)
    plain = "image,label\n" + "".join(f'"{name}",{name[0]}\n' for name in names)
    parts = ["train"] * 4 + ["test"]
    split = "image,label,split\n" + "".join(
        f"{name},{name[0]},{part}\n" for name, part in zip(names, parts * 2, strict=True)
    )

    def door(content: bytes) -> None:
        (folder / "x.csv").write_bytes(content)
        dataset = data.load(str(folder / "x.csv"), (8, 8))
        for part in (dataset.train, dataset.test):
            assert part.images.shape == (len(part), 8, 8, 3)
            assert part.labels.max() < len(dataset.class_names)

    return damaged([plain.encode(), split.encode()]), door


def keras_door(folder: Path):
    import keras

    from tinyconv import saving

    path = folder / "x.keras"
    inputs = keras.Input((4, 4, 3), name="image")
    x = keras.layers.Conv2D(2, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    keras.Model(inputs, keras.layers.Dense(2)(x)).save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    config = json.loads(members["config.json"])
    texts = st.sampled_from(["config.json", "metadata.json"]).flatmap(
        lambda name: damaged([members[name]]).map(lambda new: archive(members | {name: new}))
    )
    changed = odd_json(config).map(
        lambda new: archive(members | {"config.json": json.dumps(new).encode()})
    )

    def door(content: bytes) -> None:
        path.write_bytes(content)
        model = saving.load_model(path)
        assert len(model.input_shape) == 4 and len(model.output_shape) == 2
        keras.backend.clear_session()

    return changed | texts | with_one_damaged(members) | damaged([path.read_bytes()]), door


@st.composite
def odd_json(draw, tree):
    """A JSON tree with one node replaced."""
    tree = json.loads(json.dumps(tree))
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = draw(st.sampled_from(list(keys)))
        if isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 9)):
            node = node[key]
            continue
        node[key] = draw(
            st.sampled_from([None, -1, 0, 10**5, 2**70, 1e300, "", "relu", [], {}, True, [None, 3]])
        )
        return tree


def flags_door(folder: Path):
    from tinyconv import cli, devices
    from tinyconv.errors import InputError
    from tinyconv.training import train

    np.savez(
        folder / "x.npz", **{f"{k}_{p}": v for p in ("train", "test") for k, v in SMALL.items()}
    )

    train.Trainer = train.folder_of = train._train = lambda *args: None

    def no_tpu(self, tpu):
        raise InputError("No TPU.")

    if hasattr(devices.Devices, "_find_tpu"):
        devices.Devices._find_tpu = no_tpu
    words = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)))
    words = words.filter(lambda word: ".." not in word)
    numbers = st.integers().map(str) | st.integers(-2, 40).map(str) | st.floats().map(str)
    names = [
        "resnet20",
        "digits",
        "finetune",
        "x.npz",
        "x.keras",
        ".",
        "no\nline",
        "a b",
        "ü",
    ]
    value = words | numbers | st.sampled_from(names)
    flags = [
        "--model",
        "--freeze",
        "--data",
        "--recipe",
        "--set",
        "--epoch",
        "--batch",
        "--augment",
        "--tpu",
    ]
    flags += ["--mixed", "--seed", "--holdout", "--out", "--resume", "--devices"]
    flags += ["--data-range"]
    flags += ["--hosts", "--host-index"]
    flag = st.sampled_from(flags)
    fitting = st.sampled_from(
        [("--epoch", "1"), ("--batch", "2"), ("--model", "resnet20"), ("--seed", "3"), ("--mixed",)]
    )
    option = st.tuples(flag, value) | st.tuples(flag) | fitting
    lines = st.lists(option, max_size=6).map(lambda options: [w for o in options for w in o])

    def door(line: list[str]) -> None:
        try:
            args = cli.parse(["train", "--data", "x.npz", "--model", "resnet20", *line])
        except SystemExit as end:
            assert end.code in (0, 2)
            return
        args.main(args)

    return lines, door


DOORS = {
    door.__name__.removesuffix("_door"): door
    for door in (npz_door, csv_door, image_door, safetensors_door, pt_door, keras_door, flags_door)
}


def play(name: str, seed: int, folder: Path, counter, found) -> None:
    """One round at one door, in a process of its own."""
    import os

    os.chdir(folder)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from tinyconv.errors import InputError

    inputs, door = DOORS[name](folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    seen = set()
    end = time.monotonic() + ROUND

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=10**6,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(inputs)
    def once(content) -> None:
        if time.monotonic() > end:
            raise KeyboardInterrupt
        (folder / "last").write_bytes(
            content if isinstance(content, bytes) else repr(content).encode()
        )
        counter.value += 1
        began = time.monotonic()
        error: BaseException | None = None
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                door(content)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            if not isinstance(raised, InputError) or len(str(raised)) > 1000:
                error = raised
        if error is None and time.monotonic() - began > SLOW:
            error = TimeoutError(f"{time.monotonic() - began:.0f} s")
        if error is not None:
            *_, last = traceback.extract_tb(error.__traceback__) or [None]
            what = f"{type(error).__name__} at {last and (last.filename, last.lineno)}: {error}"
            key = what.split(":")[0]
            if key not in seen:
                seen.add(key)
                found.put((what, content))

    with contextlib.suppress(KeyboardInterrupt):
        once()


def main(seconds: float, names: list[str]) -> int:
    context = multiprocessing.get_context("spawn")
    counts, findings = dict.fromkeys(names, 0), {}
    end, seed = time.monotonic() + seconds, int(time.time())
    while time.monotonic() < end:
        for name in names:
            seed += 1
            with tempfile.TemporaryDirectory() as folder:
                counter, found = context.Value("q", 0), context.Queue()
                player = context.Process(
                    target=play, args=(name, seed, Path(folder), counter, found)
                )
                player.start()
                player.join(5 * ROUND)
                stuck = player.is_alive()
                if stuck:
                    player.kill()
                    player.join()
                counts[name] += counter.value
                new = []
                while not found.empty():
                    new.append(found.get())
                if stuck or player.exitcode:
                    last = Path(folder, "last")
                    content = last.read_bytes() if last.exists() else b""
                    new.append((f"{'stuck' if stuck else f'exit {player.exitcode}'}", content))
                for what, content in new:
                    key = (name, what.split(":")[0])
                    if key not in findings:
                        findings[key] = what
                        kept = Path(tempfile.gettempdir(), f"fuzz-{name}-{len(findings)}")
                        raw = content if isinstance(content, bytes) else repr(content).encode()
                        kept.write_bytes(raw)
                        print(f"{name}: {what} ({kept})", flush=True)
        print(f"{sum(counts.values()):,} inputs: {counts}", flush=True)
    return len(findings)


if __name__ == "__main__":
    chosen = sys.argv[2:] or list(DOORS)
    sys.exit(min(1, main(float(sys.argv[1]), chosen)))
