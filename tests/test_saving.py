"""Files that tinyconv writes, opened by older releases of Keras, other backends and settings."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from conftest import ROOT, command, run

import tinyconv
from tinyconv import saving, trained
from tinyconv.errors import InputError
from tinyconv.saving import save_model

# Every minor release from 3.4 on can be named here; 3.4 knows the fewest arguments, and 3.11 has a
# `Rescaling` of its own.
OLD = os.environ.get("TINYCONV_OLD_KERAS", "3.4.1,3.11.3").split(",")
READ = """
import sys
from pathlib import Path
import keras
import numpy as np
print(keras.__version__, keras.backend.backend(), keras.config.image_data_format())
for path in sorted(Path(sys.argv[1]).glob(f"{sys.argv[2]}.keras")):
    if path.stem == "test_nfnet":
        import tinyconv.layers
    try:
        model = keras.saving.load_model(path, compile=False)
        with np.load(path.with_suffix(".npz")) as expected:
            images, logits = expected["images"], expected["logits"]
        found = keras.ops.convert_to_numpy(model(images.astype("float32")))
        difference = float(np.abs(found - logits).max() / np.abs(logits).max())
        print(path.stem, difference)
    except Exception as error:
        print(path.stem, "failed", " ".join(f"{type(error).__name__}: {error}".split())[-200:])
"""


def randomize(model):
    """Weights of which none is zero or one, and activations that stay finite."""
    rng = np.random.default_rng(0)
    model.set_weights([w + 0.02 * rng.random(w.shape, np.float32) for w in model.get_weights()])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every net, and the models that ship: a `.keras` file each, and its answer to two images."""
    folder = tmp_path_factory.mktemp("files")
    models = {}
    for name in tinyconv.list_models():
        keras.utils.set_random_seed(0)
        models[name] = tinyconv.create_model(name)
        randomize(models[name])
    for name, model in models.items():
        save_model(model, folder / f"{name}.keras")
    for name in trained.shipped():
        models[f"{name}_shipped"] = saving.load_model(trained.path(name))
        (folder / f"{name}_shipped.keras").symlink_to(trained.path(name))
    for name, model in models.items():
        images = np.random.default_rng(1).integers(256, size=(2, *model.input_shape[1:]))
        logits = model(images.astype(np.float32)).numpy()
        assert np.isfinite(logits).all(), name
        np.savez(folder / f"{name}.npz", images=images.astype(np.uint8), logits=logits)
    return folder


def read(files, pattern="*", **environment):
    """What a process says of the files: its first line, and the difference of each file's logits.

    The difference is a share of the largest logit.
    """
    process = subprocess.run(
        [sys.executable, "-c", READ, files, pattern],
        env=os.environ | {"KERAS_BACKEND": "tensorflow"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    first, *lines = process.stdout.splitlines()
    answers = dict(line.split(maxsplit=1) for line in lines)
    assert len(answers) == len(list(files.glob(f"{pattern}.keras")))
    assert not [name for name, answer in answers.items() if "failed" in answer], answers
    return first, {name: float(answer) for name, answer in answers.items()}


@pytest.mark.slow
@pytest.mark.parametrize("release", OLD)
def test_an_older_keras_opens_every_file(files, tmp_path_factory, release):
    target = tmp_path_factory.mktemp(f"keras-{release}")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    pip = subprocess.run([*install, "--target", target, f"keras=={release}"], capture_output=True)
    if pip.returncode:
        pytest.skip(f"keras {release} cannot be installed here")
    first, differences = read(files, PYTHONPATH=os.pathsep.join(map(str, (target, ROOT))))
    assert first.startswith(f"{release} ")
    assert max(differences.values()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_backend_opens_the_models_that_ship(files, backend):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    first, differences = read(files, "*_shipped", KERAS_BACKEND=backend)
    assert f" {backend} " in first
    assert max(differences.values()) < 1e-5


@pytest.fixture
def keras_json(tmp_path):
    """A function that writes a keras.json of these settings, and returns the variable for it."""

    def write(**settings):
        (tmp_path / "keras.json").write_text(json.dumps(settings))
        return {"KERAS_HOME": str(tmp_path)}

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"image_data_format": "channels_first"}, {"floatx": "float64"}]
)
def test_a_file_is_right_whatever_keras_json_says(files, keras_json, settings):
    first, differences = read(files, **keras_json(**settings))
    assert settings.get("image_data_format", "channels_last") in first
    assert max(differences.values()) < 1e-5


@pytest.mark.slow
def test_a_run_is_the_same_under_channels_first(npz, tmp_path, keras_json):
    figures, arguments = [], ["--data", npz, "--epoch", 1, "--augment", "--batch", 16]
    command("train", "--model", "tiniest", *arguments, "--out", tmp_path / "last")
    arguments += ["--out", tmp_path / "first"]
    environment = keras_json(image_data_format="channels_first")
    run("train.py", "--model", "tiniest", *arguments, **environment)
    for name in ("last", "first"):
        figures.append(
            [
                json.loads(report.read_text())[part]
                for report in (tmp_path / name).glob("*/report.json")
                for part in ("parameters", "train", "test")
            ]
        )
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"floatx": "float16"}, "floatx in {} is 'float16'; it must be float32."),
        ({"floatx": "float64"}, "floatx in {} is 'float64'; it must be float32."),
        ({"backend": "torch"}, "The backend in {} is 'torch'; tinyconv runs on tensorflow or jax."),
        ({"image_data_format": "NHWC"}, "image_data_format in {} is 'NHWC'; it must be"),
    ],
)
def test_settings_that_cannot_work_are_refused(keras_json, tmp_path, settings, sentence):
    _, error = run("-m", "tinyconv", "list", status=2, **keras_json(**settings))
    assert error.startswith(f"error: {sentence.format(tmp_path / 'keras.json')}")
    assert error.count("\n") == 1


def test_another_floatx_is_refused_in_python():
    keras.config.set_floatx("float64")
    try:
        for call in (
            lambda: tinyconv.create_model("tiniest"),
            lambda: saving.load_model(trained.path("tiniest")),
        ):
            with pytest.raises(InputError, match=r"floatx is float64.*keras\.json"):
                call()
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
def test_only_arguments_that_differ_from_the_default_are_stored(tmp_path):
    """An argument goes only where it has the value that older releases assume."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(renorm=True, renorm_momentum=0.9)(image)
    x = keras.layers.LayerNormalization(rms_scaling=True)(x)
    x = keras.layers.Dropout(0.5, seed=3)(x)
    x = keras.layers.Dense(4, use_bias=False, dtype="mixed_bfloat16", name="kept")(x)
    model = keras.Model(image, keras.ops.split(x, 2, axis=-1)[0])
    save_model(model, tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for layer, same in zip(model.layers[:-1], again.layers[:-1], strict=True):
        assert layer.get_config() == same.get_config()
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        stored = json.loads(archive.read("config.json"))["config"]["layers"]
    assert stored[1]["config"]["renorm"] is True
    assert stored[2]["config"]["rms_scaling"] is True
    assert "quantization_config" not in stored[4]["config"]
    assert stored[4]["config"]["dtype"] == "mixed_bfloat16"
    assert "name" not in stored[5]["config"]


@keras.saving.register_keras_serializable("test_saving")
class Noted(keras.layers.Layer):
    """A layer of somebody's whose configuration looks like that of Keras' own."""

    def __init__(self, notes, **more):
        super().__init__(**more)
        self.notes = notes

    def call(self, x):
        return x

    def get_config(self):
        return super().get_config() | {"notes": self.notes}


NOTES = [{"module": "keras", "config": {"a": None}}, {"class_name": "DTypePolicy"}]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["None in an operation", "a layer and an operation", "notes"])
def test_what_users_build_is_stored_whole(case, tmp_path):
    keras.backend.clear_session()
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    if case == "None in an operation":
        x = keras.ops.softmax(x, axis=None)
    elif case == "a layer and an operation":  # whose names, made anew, would both be "add"
        x = keras.layers.Add()([x, x]) + x
    else:
        x = Noted(NOTES)(x)
    model = keras.Model(image, x)
    save_model(model, tmp_path / "model.keras")
    keras.backend.clear_session()
    again = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_allclose(again(images), model(images), rtol=1e-6)
    configs = [m.layers[-1].get_config() for m in (model, again)]
    assert configs[0] == configs[1]
