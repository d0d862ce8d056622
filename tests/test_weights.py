import argparse
import hashlib
import itertools
import os
import struct
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, command, run
from golden import make
from safetensors.numpy import load_file, save_file

from tinyconv import create_model, data, registry, report, weights
from tinyconv.errors import InputError
from tinyconv.timing import torch_nets
from tinyconv.weights import torch_files

NETS = sorted(make.NETS)
PUBLISHED = Path(os.environ.get("TINYCONV_TINIEST", "tiniest.pt"))
RESNET20 = Path(os.environ.get("TINYCONV_RESNET20", "resnet20_cifar100.pt"))
CIFAR10 = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser() / "cifar10"


def create(name):
    net, _, classes = name.partition("-")
    return create_model(net, int(classes) if classes else None)


def golden(name):
    """The golden state dict of a net and the logits that belong to it."""
    with np.load(ROOT / "tests" / "golden" / f"{name}.npz") as file:
        shapes = [tuple(map(int, text.split())) for text in file["shapes"]]
        return make.weights(dict(zip(file["keys"], shapes, strict=True))), file["logits"]


def test_every_family_with_names_in_pytorch_has_a_golden_file():
    names = [file.stem.split("-")[0] for file in Path(make.HERE).glob("*.npz")]
    nets = registry.NETS.values()
    named = {net.family for net in nets if hasattr(net.module(), "torch_names")}
    assert {registry.get(name).family for name in names} == named


@pytest.mark.parametrize("name", NETS)
def test_logits_are_those_of_pytorch(name):
    state, logits = golden(name)
    model = create(name)
    weights.load_torch(model, state)
    np.testing.assert_allclose(model(make.images(8)), logits, rtol=1e-4, atol=1e-4)
    assert logits.std(axis=0).mean() > 0.1  # images are told apart


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_survive_the_way_to_pytorch_and_back_to_the_bit(name, suffix, tmp_path):
    if suffix == ".pt":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    state, _ = golden(name)
    model, other = create(name), create(name)
    weights.load_torch(model, state)
    weights.save_torch(model, tmp_path / f"net{suffix}")
    saved = weights.read(tmp_path / f"net{suffix}")
    counters = {f"{k.rpartition('.')[0]}.num_batches_tracked" for k in state if "running" in k}
    assert set(saved) == set(state) | counters
    for key, array in state.items():
        np.testing.assert_array_equal(saved[key], array, err_msg=key)
    weights.load_torch(other, tmp_path / f"net{suffix}")
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)


BAD_STATES = {
    "missing": (lambda s: s.pop("fc.bias"), "they lack fc.bias (found "),
    "many missing": (lambda s: [s.pop(k) for k in list(s)[:9]], "and 6 more (found"),
    "left over": (
        lambda s: s.update(extra=np.zeros(1)),
        "they have extra left over (found ",
    ),
    "integers": (
        lambda s: s.update({"fc.weight": s["fc.weight"].astype(np.int8)}),
        "they have fc.weight of type int8, not floating-point numbers (found",
    ),
    "wrong shape": (
        lambda s: s.update({"fc.weight": s["fc.weight"][:7]}),
        "they have fc.weight of shape (7, 80) instead of (10, 80) (found",
    ),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_state_that_does_not_fit_changes_nothing(case):
    spoil, sentence = BAD_STATES[case]
    state, _ = golden("tiniest")
    spoil(state)
    model = create_model("tiniest")
    before = [w.numpy() for w in model.weights]
    with pytest.raises(InputError) as error:
        weights.load_torch(model, state)
    assert sentence in str(error.value)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("gone.pt", None, "There is no file"),
        ("gone.safetensors", None, "There is no file"),
        ("weights.h5", b"", "must end in .safetensors, .pt, .pth, .pth.tar, .bin or .ckpt."),
        ("weights.tar", b"", "must end in .safetensors, .pt, .pth, .pth.tar, .bin or .ckpt."),
        ("short.safetensors", b"\x10\0\0\0\0\0\0\0{", "is damaged or not a .safetensors file"),
        ("empty.safetensors", b"", "is empty; fetch it again."),
        ("page.safetensors", b"<html>", "is a web page, not weights"),
        ("empty.pt", b"", "is empty; fetch it again."),
        ("page.pt", b"\n<!DOCTYPE html>", "is a web page, not weights"),
        ("pointer.bin", b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        ("text.pt", b"hello", "is not a file that torch.save wrote."),
        ("model.ckpt", bytes(range(99)), "is not a file that torch.save wrote."),
        ("other.bin", b"\x10\0\0\0\0\0\0\0{}", "is a .safetensors file by its content; rename"),
        ("cut.pth.tar", b"PK\x03\x04 and no more", "is damaged or cut short; fetch it again."),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name, content, sentence, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        weights.read(tmp_path / name)
    assert sentence in str(error.value)


def test_without_pytorch_a_pt_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="needs PyTorch, which is not installed"):
        weights.save_torch(create_model("tiniest"), tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"must end in \.safetensors or \.pt"):
        weights.save_torch(create_model("tiniest"), tmp_path / "other.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_net_with_a_layer_more_is_refused():
    state, _ = golden("tiniest")
    net = create_model("tiniest")
    longer = keras.Model(net.input, keras.layers.Dense(3, name="more")(net.output), name="tiniest")
    with pytest.raises(InputError, match="that the original lacks: more/kernel, more/bias"):
        weights.load_torch(longer, state)


def test_a_net_is_made_for_as_many_classes_as_its_weights_know(tmp_path):
    file = tmp_path / "net.safetensors"
    weights.save_torch(create_model("tiniest", num_classes=7), file)
    assert create_model("tiniest", pretrained=file).output_shape == (None, 7)
    assert create_model("tiniest", num_classes=5, pretrained=file).output_shape == (None, 5)


@pytest.mark.parametrize("has_head", [True, False])
def test_a_body_is_loaded_whether_or_not_the_file_has_a_head(has_head, tmp_path, capsys):
    state, _ = golden("tiniest")
    kept = {key: array for key, array in state.items() if has_head or not key.startswith("fc.")}
    save_file(kept, tmp_path / "net.safetensors")
    for classes, said in ((0, ""), (5, "net.safetensors: a new head, since the file has none\n")):
        model = create_model("tiniest", classes, pretrained=tmp_path / "net.safetensors")
        np.testing.assert_array_equal(
            model.get_layer("stem_conv").kernel, state["conv1.weight"].transpose(2, 3, 1, 0)
        )
        assert capsys.readouterr().err.endswith("" if has_head else said)
    if not has_head:
        with pytest.raises(InputError, match=r"net\.safetensors has no head of tiniest; give num_"):
            create_model("tiniest", pretrained=tmp_path / "net.safetensors")
        with pytest.raises(
            InputError, match=r"they lack fc\.bias, fc\.weight \(found .. tensors: "
        ):
            weights.load_torch(create_model("tiniest"), tmp_path / "net.safetensors")


@pytest.mark.parametrize("classes", [None, 0, 5])
def test_weights_of_another_net_are_named_and_not_taken_for_a_body(classes, tmp_path):
    save_file(golden("resnet20")[0], tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"not those of tiniest.*: they .*\(found 1.. tensors: "):
        create_model("tiniest", classes, pretrained=tmp_path / "net.safetensors")
    body = {"features.0.weight": np.zeros(3), "features.0.bias": np.zeros(3)}
    save_file(body, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"found 2 tensors: features\.0\."):
        create_model("tiniest", classes, pretrained=tmp_path / "net.safetensors")


WEIGHTS = {"conv.weight": np.arange(6, dtype=np.float32), "fc.bias": np.ones(2, np.float32)}
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(6), "step": np.ones(1)}}, "param_groups": [{}]}
BESIDE = {"epoch": 3, "arch": "net", "optimizer": OPTIMIZER, "optim": WEIGHTS, "ema_decay": 0.9}
WRAPPINGS = {
    "none": lambda state: state,
    "nested": lambda state: {"model": {"state_dict": state}, **BESIDE},
    "no average": lambda state: {"state_dict": state, "state_dict_ema": None, **BESIDE},
} | {
    name: lambda state, name=name: {**BESIDE, name: state}
    for name in ("state_dict", "model_state_dict", "model", "net", "model_ema", "state_dict_ema")
}
WRAPPED = list(itertools.product(WRAPPINGS, range(3)))


def prefixed(rng):
    """`WEIGHTS` under some prefixes in some order."""
    every = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")
    prefix = "".join(rng.choice(every, size=rng.integers(4), replace=False))
    state = {prefix + key: array for key, array in WEIGHTS.items()}
    return prefix, state | ({"n_averaged": np.array(7)} if prefix.startswith("module.") else {})


def assert_read(state, said, prefix, wrapping):
    assert list(state) == list(WEIGHTS)
    for key, array in WEIGHTS.items():
        np.testing.assert_array_equal(state[key], array, strict=True)
    assert said.count("\n") == bool(prefix or wrapping != "none")
    assert (f"prefix {prefix!r} left out" in said) == bool(prefix)
    assert ("entry [" in said) == (wrapping != "none")


@pytest.mark.parametrize(("wrapping", "seed"), WRAPPED)
def test_any_wrapping_under_any_prefix_is_the_same_weights(wrapping, seed, tmp_path, capsys):
    for draw in range(8):
        prefix, state = prefixed(np.random.default_rng((seed, draw)))
        found = torch_files.unwrap(WRAPPINGS[wrapping](state), "It")
        assert_read(found, capsys.readouterr().err, prefix, wrapping)
        if wrapping == "none":
            save_file(state, tmp_path / "net.safetensors")
            found = torch_files.read(tmp_path / "net.safetensors")
            assert_read(dict(sorted(found.items())), capsys.readouterr().err, prefix, wrapping)


@pytest.mark.parametrize(("wrapping", "seed"), WRAPPED)
def test_any_wrapping_in_a_pt_is_the_same_weights(wrapping, seed, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def tensors(content):
        if isinstance(content, dict):
            return {key: tensors(value) for key, value in content.items()}
        return torch.from_numpy(content) if isinstance(content, np.ndarray) else content

    for ending in (".pt", ".pth", ".pth.tar", ".bin", ".ckpt", ".PTH"):
        prefix, state = prefixed(np.random.default_rng((seed, len(ending))))
        path = tmp_path / f"net{ending}"
        torch.save(
            tensors(WRAPPINGS[wrapping](state)), path, _use_new_zipfile_serialization=seed > 0
        )
        assert_read(torch_files.read(path), capsys.readouterr().err, prefix, wrapping)


OTHERS = {f"{key}.more": array for key, array in WEIGHTS.items()}
AMBIGUOUS = {
    "an average": ({"state_dict": WEIGHTS, "state_dict_ema": WEIGHTS}, "['state_dict_ema']"),
    "one of many shapes": ({"model": WEIGHTS, "ema": {"shadow": [1]}}, "under ['ema']"),
    "one below": ({"model": WEIGHTS, "callbacks": {"w": WEIGHTS}}, "under ['callbacks']['w']"),
    "one with a prefix": (
        {"net": WEIGHTS, "best": {f"module.{k}": v for k, v in WEIGHTS.items()}},
        "under ['best']",
    ),
    "two nets": ({"model": WEIGHTS, "net": OTHERS}, "under ['model'] and under ['net']"),
    "an unknown name": ({"weights": WEIGHTS, "epoch": 1}, "has no state dict under a name that is"),
    "an optimizer alone": ({"optimizer": WEIGHTS}, "is not a state dict: a mapping of names to"),
    "no names": ({0: np.ones(1)}, "is not a state dict: a mapping of names to tensors; it has 0."),
    "nothing": ({}, "is not a state dict: a mapping of names to tensors."),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_could_mean_two_things_is_refused(case):
    content, sentence = AMBIGUOUS[case]
    with pytest.raises(InputError) as error:
        weights.load_torch(create_model("tiniest"), content)
    assert sentence in str(error.value)


def test_a_prefix_of_some_names_alone_stays():
    state = {"module.a": np.ones(1), "b": np.ones(1)}
    assert torch_files.unwrap(state, "It") == state


def test_no_net_has_names_that_begin_like_a_wrapper():
    for name, net in registry.NETS.items():
        torch_names = getattr(net.module(), "torch_names", lambda name: ())
        for _, prefix, _ in torch_names(name):
            assert not f"{prefix}.".startswith(torch_files.PREFIXES)


def test_a_pt_of_a_training_is_converted(tmp_path):
    """A state dict that was compiled, on several GPUs, and saved beside its optimizer."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    state, logits = golden("tiniest")
    state = {f"module._orig_mod.{key}": torch.from_numpy(array) for key, array in state.items()}
    torch.save({"epoch": 3, "model": state, "optimizer": {"x": 1}}, tmp_path / "run.pth.tar")
    files = tmp_path / "run.pth.tar", tmp_path / "net.keras"
    _, said = command("convert", "tiniest", *files)
    assert f"{files[0]}: read entry ['model'], prefix 'module._orig_mod.' left out\n" in said
    model = keras.saving.load_model(files[1])
    np.testing.assert_allclose(model(make.images(8)), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda t: t.nn.Linear(2, 2), "(torch.nn.modules.linear.Linear), which is not opened"),
        (lambda t: {"a": t.ones(1), "args": argparse.Namespace()}, "(argparse.Namespace), which"),
        (lambda t: {"a": t.ones(1), "best": np.float64(1)}, "(numpy._core.multiarray.scalar), whi"),
        (lambda t: t.jit.trace(t.nn.Linear(2, 2), t.ones(1, 2)), "is a TorchScript file"),
    ],
)
def test_a_pt_with_more_than_tensors_says_what_to_save(content, sentence, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    content = content(torch)
    save = torch.jit.save if isinstance(content, torch.jit.ScriptModule) else torch.save
    save(content, tmp_path / "net.pt")
    with pytest.raises(InputError) as error:
        torch_files.read(tmp_path / "net.pt")
    assert sentence in str(error.value) and "state dict" in str(error.value)
    whole = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is damaged or cut short; fetch it again"):
        torch_files.read(tmp_path / "half.pt")


def test_a_header_whose_length_looks_like_a_page_is_one_of_safetensors(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x3C20)
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert path.read_bytes().startswith(b" <") and list(torch_files.read(path)) == ["a"]


def test_a_mapping_in_itself_is_refused():
    content = {"epoch": 1}
    content["model"] = content
    with pytest.raises(InputError, match="is not a state dict"):
        torch_files.unwrap(content, "It")


@pytest.mark.slow
def test_a_softmax_after_the_head_is_not_lost_on_the_way_to_pytorch(tmp_path):
    net = create_model("tiniest")
    ends = (keras.ops.softmax(net.output), keras.layers.Softmax()(net.output))
    for end in ends:
        keras.Model(net.input, end, name="tiniest").save(tmp_path / "net.keras")
        files = [tmp_path / name for name in ("net.keras", "net.safetensors")]
        _, said = command("convert", "tiniest", *files, status=2)
        assert "in its head; remove the layers after it" in said
    assert not (tmp_path / "net.safetensors").exists()
    create_model("tiniest", num_classes=0).save(tmp_path / "net.keras")
    command("convert", "tiniest", *files)
    assert (tmp_path / "net.safetensors").exists()


def test_half_precision_in_safetensors_is_read_as_float32(tmp_path):
    def written(kind, shape):
        header = b'{"a":{"dtype":"%s","shape":%s,"data_offsets":[0,4]}}' % (kind, shape)
        path = tmp_path / "half.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes.fromhex("c03f 00c0"))
        return path

    array = torch_files.read(written(b"BF16", b"[1,2]"))["a"]
    np.testing.assert_array_equal(array, np.array([[1.5, -2]], np.float32), strict=True)
    with pytest.raises(InputError, match=r"a \(F8_E4M3\) is not a dense array of real numbers"):
        torch_files.read(written(b"F8_E4M3", b"[4]"))


def test_a_net_without_its_head_takes_no_head():
    state, _ = golden("tiniest")
    body = create_model("tiniest", num_classes=0)
    with pytest.raises(InputError, match=r"they have fc\.bias, fc\.weight left over"):
        weights.load_torch(body, state)
    weights.load_torch(body, {k: v for k, v in state.items() if not k.startswith("fc")})


def test_parameters_in_a_pt_of_half_precision_are_read_as_float32(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    state, _ = golden("tiniest")
    half = {str(k): torch.nn.Parameter(torch.from_numpy(v).bfloat16()) for k, v in state.items()}
    torch.save(half, tmp_path / "half.pt")
    for source in (half, tmp_path / "half.pt"):
        model = create_model("tiniest")
        weights.load_torch(model, source)
        kernel = model.get_layer("head_dense").kernel.numpy()
        np.testing.assert_allclose(kernel, state["fc.weight"].T, rtol=0.01)


def test_a_net_without_an_original_is_refused(tmp_path):
    with pytest.raises(InputError, match="cifar10_tiny has no PyTorch original"):
        weights.save_torch(create_model("cifar10_tiny"), tmp_path / "net.safetensors")


@pytest.mark.slow
def test_convert_from_pytorch_and_back(tmp_path):
    state, logits = golden("tiniest")
    there, back = tmp_path / "net.keras", tmp_path / "back.safetensors"
    save_file(state, tmp_path / "net.safetensors")
    source = tmp_path / "net.safetensors"
    printed, _ = run("-m", "tinyconv", "convert", "tiniest", source, there)
    assert "tiniest, 97,530 parameters" in printed
    model = keras.saving.load_model(there)
    np.testing.assert_allclose(model(make.images(8)), logits, rtol=1e-4, atol=1e-4)
    command("convert", "tiniest", there, back)
    for key, array in load_file(back).items():
        np.testing.assert_array_equal(array, state[key])


@pytest.mark.skipif(not RESNET20.exists(), reason="TINYCONV_RESNET20 does not name one.pt")
def test_a_resnet20_of_the_authors_answers_as_it_did():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    model = create_model("resnet20", num_classes=100)
    weights.load_torch(model, RESNET20)
    with np.load(RESNET20.with_suffix(".npz")) as file:
        images, logits = file["images"], file["logits"]
    np.testing.assert_allclose(model(images), logits, rtol=1e-4, atol=1e-4)
    for image, expected in zip(images, logits, strict=True):  # one by one as in a batch
        np.testing.assert_allclose(model(image[None])[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="TINYCONV_TINIEST does not name tiniest.pt")
@pytest.mark.skipif(not CIFAR10.exists(), reason=f"no CIFAR-10 in {CIFAR10.parent}")
def test_the_published_tiniest_is_right_9463_times_of_10000():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert hashlib.sha256(PUBLISHED.read_bytes()).hexdigest().startswith("1a5c6eed1559")
    model = create_model("tiniest")
    weights.load_torch(model, PUBLISHED)
    cifar = data.load("cifar10", (32, 32))
    evaluation = report.evaluate(model, cifar.test)
    assert (evaluation.predictions == cifar.test.labels).sum() == 9463
    by_class = evaluation.by_class(cifar.class_names, as_dict=True)
    for name, precision, recall, f1 in (
        ("airplane", 0.954, 0.947, 0.950),
        ("automobile", 0.950, 0.984, 0.967),
        ("bird", 0.929, 0.933, 0.931),
        ("cat", 0.891, 0.877, 0.884),
        ("deer", 0.960, 0.951, 0.955),
        ("dog", 0.913, 0.910, 0.911),
        ("frog", 0.964, 0.973, 0.969),
        ("horse", 0.966, 0.963, 0.964),
        ("ship", 0.966, 0.972, 0.969),
        ("truck", 0.969, 0.953, 0.961),
    ):
        row = [round(by_class[name][key], 3) for key in ("precision", "recall", "f1-score")]
        assert row == [precision, recall, f1], name
    original = torch_nets.get("tiniest")()
    original.load_state_dict(torch.load(PUBLISHED, weights_only=True))
    some = cifar.test.images[:100]
    np.testing.assert_allclose(
        evaluation.logits[:100], make.answer(original, some, *make.HALVES), atol=1e-4
    )


def test_the_normalization_of_weights_stays_with_them(tmp_path):
    """ResNets for CIFAR-100 normalize otherwise than those for CIFAR-10."""
    net = create_model("resnet20", num_classes=100)
    weights.save_torch(net, tmp_path / "net.safetensors")
    features = keras.Model(net.input, net.get_layer("head_dense").input)
    image = np.random.default_rng(0).integers(256, size=(2, 32, 32, 3)).astype(np.float32)
    for classes in (0, 5):
        other = create_model("resnet20", classes, pretrained=tmp_path / "net.safetensors")
        pooled = other.get_layer("head_pool").output
        assert np.array_equal(keras.Model(other.input, pooled)(image), features(image))
