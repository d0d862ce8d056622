import hashlib
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, run
from golden import make
from safetensors.numpy import load_file, save_file

from tinyconv import create_model, data, maps, originals, registry, report, weights
from tinyconv.errors import InputError

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


def test_every_mapped_family_has_a_golden_file():
    names = [file.stem.split("-")[0] for file in Path(make.HERE).glob("*.npz")]
    assert {registry.find(name).family for name in names} == set(maps.MAPS)


@pytest.mark.parametrize("name", NETS)
def test_logits_are_those_of_pytorch(name):
    state, logits = golden(name)
    model = create(name)
    weights.load_torch(model, state)
    np.testing.assert_allclose(model(make.images(8)), logits, rtol=1e-4, atol=1e-4)
    assert logits.std(axis=0).mean() > 0.1  # images are told apart


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_there_and_back_is_bit_exact(name, suffix, tmp_path):
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
    "missing": (lambda s: s.pop("fc.bias"), "they lack fc.bias."),
    "many missing": (lambda s: [s.pop(k) for k in list(s)[:9]], "and 6 more."),
    "left over": (lambda s: s.update(extra=np.zeros(1)), "they have extra left over."),
    "wrong shape": (
        lambda s: s.update({"fc.weight": s["fc.weight"][:7]}),
        "they have fc.weight of shape (7, 80) instead of (10, 80).",
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
        ("weights.h5", b"", "must end in .safetensors or .pt"),
        ("short.safetensors", b"\x10\0\0\0\0\0\0\0{", "is damaged or not a .safetensors file"),
        ("empty.safetensors", b"", "is damaged or not a .safetensors file"),
        ("empty.pt", b"", "is damaged or holds more than tensors"),
        ("text.pt", b"hello", "is damaged or holds more than tensors"),
        ("cut.pt", b"PK\x03\x04 and no more", "is damaged or holds more than tensors"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name, content, sentence, tmp_path):
    if name.endswith(".pt") and content is not None:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        weights.read(tmp_path / name)
    assert sentence in str(error.value)


class Hostile:
    def __reduce__(self):
        return Path.touch, (ROOT / "hostile pickle was run",)


@pytest.mark.parametrize("content", [Hostile(), {"fc.bias": Hostile()}, [1, 2], {"fc.bias": 1}])
def test_a_pt_that_holds_more_than_tensors_is_refused_and_never_run(content, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=r"holds more than tensors|is not a state dict"):
        weights.read(tmp_path / "bad.pt")
    assert not (ROOT / "hostile pickle was run").exists()


def test_without_pytorch_a_pt_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "net.pt").write_bytes(b"")
    with pytest.raises(InputError, match="needs PyTorch, which is not installed"):
        weights.read(tmp_path / "net.pt")
    with pytest.raises(InputError, match="needs PyTorch, which is not installed"):
        weights.save_torch(create_model("tiniest"), tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"must end in \.safetensors or \.pt"):
        weights.save_torch(create_model("tiniest"), tmp_path / "other.bin")
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


def test_a_net_with_a_layer_more_is_refused():
    state, _ = golden("tiniest")
    net = create_model("tiniest")
    longer = keras.Model(net.input, keras.layers.Dense(3, name="more")(net.output), name="tiniest")
    with pytest.raises(InputError, match=r"it has more/kernel, more/bias, too\."):
        weights.load_torch(longer, state)


def test_a_net_is_made_for_as_many_classes_as_its_weights_know(tmp_path):
    file = tmp_path / "net.safetensors"
    weights.save_torch(create_model("tiniest", num_classes=7), file)
    assert create_model("tiniest", pretrained=file).output_shape == (None, 7)
    assert create_model("tiniest", num_classes=5, pretrained=file).output_shape == (None, 5)


def test_a_net_without_its_head_takes_no_head():
    state, _ = golden("tiniest")
    body = create_model("tiniest", num_classes=0)
    with pytest.raises(InputError, match=r"they have fc\.bias, fc\.weight left over"):
        weights.load_torch(body, state)
    weights.load_torch(body, {k: v for k, v in state.items() if not k.startswith("fc")})


def test_half_precision_and_parameters_are_read_as_float32(tmp_path):
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


def test_convert_there_and_back(tmp_path):
    state, logits = golden("tiniest")
    there, back = tmp_path / "net.keras", tmp_path / "back.safetensors"
    save_file(state, tmp_path / "net.safetensors")
    script = "from tinyconv.cli import main; main()"
    printed, _ = run("-c", script, "convert", "tiniest", tmp_path / "net.safetensors", there)
    assert "tiniest, 97,530 parameters" in printed
    model = keras.saving.load_model(there)
    np.testing.assert_allclose(model(make.images(8)), logits, rtol=1e-4, atol=1e-4)
    run("-c", script, "convert", "tiniest", there, back)
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
    original = originals.find("tiniest")()
    original.load_state_dict(torch.load(PUBLISHED, weights_only=True))
    some = cifar.test.images[:100]
    np.testing.assert_allclose(
        evaluation.logits[:100], make.answer(original, some, *make.HALVES), atol=1e-4
    )
