"""Cards and models for the Hugging Face Hub, with a stand-in for huggingface_hub."""

import csv
import json
import os
import shutil
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, run

from tinyconv import api, cli, create_model, hub, hub_card, saving, trained
from tinyconv.errors import InputError
from tinyconv.training.train import train

SHIPPED = ROOT / "models" / "resnet20"
QUICK = {"epochs": 1, "batch_size": 16, "augment": False}
SCRIPT = "from tinyconv.cli import main; main()"
STAND_IN = '''
"""Keeps repositories in the folder STAND_IN_HUB, as git does: without empty folders."""
import os, pathlib, shutil, tempfile

HUB = pathlib.Path(os.environ["STAND_IN_HUB"])

class RepositoryNotFoundError(OSError):
    pass

def get_token():
    return os.environ.get("HF_TOKEN")

def snapshot_download(repo_id, **_):
    if not (HUB / repo_id).is_dir():
        raise RepositoryNotFoundError(f"404 Client Error.\\n\\nRepository Not Found: {repo_id}.")
    folder = tempfile.mkdtemp(dir=HUB)
    return shutil.copytree(HUB / repo_id, folder, dirs_exist_ok=True)

class HfApi:
    def __init__(self, **_):
        pass

    def create_repo(self, repo_id, *, private=None, exist_ok=False):
        if get_token() != "hf_write":
            raise OSError("403 Forbidden: this token may not write.\\nRequest ID: 1")
        (HUB / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        (HUB / "private.txt").write_text(str(private))
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        for file in pathlib.Path(folder_path).rglob("*"):
            if file.is_file():
                target = HUB / repo_id / file.relative_to(folder_path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
'''


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The folder of the repositories."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "hub").mkdir()
    (tmp_path / "lib" / "huggingface_hub.py").write_text(STAND_IN)
    monkeypatch.setenv("STAND_IN_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    yield tmp_path / "hub"
    sys.modules.pop("huggingface_hub", None)


@pytest.fixture(scope="module")
def made(npz, tmp_path_factory):
    """A run folder, and that of a run which started from its model."""
    out = tmp_path_factory.mktemp("runs")
    layers = (keras.layers.Flatten(), keras.layers.Dense(3))
    model = keras.Sequential([keras.Input((8, 6, 3)), *layers], name="own")
    saving.save_model(model, out / "own.keras")
    first = train(out / "own.keras", npz, **QUICK, out=out)
    return first, train(first, npz, **QUICK, out=out / "tuned")


@pytest.fixture
def folders(made, tmp_path):
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in made]


@pytest.fixture
def shipped(tmp_path):
    """A copy of a run folder that ships, without its card."""
    ignored = shutil.ignore_patterns("README.md")
    return shutil.copytree(SHIPPED, tmp_path / "shipped", ignore=ignored)


def edit(folder, **changes):
    file = folder / "report.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def front_matter(text):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    _, matter, rest = text.split("---\n", 2)
    assert rest.startswith("\n# ")
    return yaml.safe_load(matter)


def test_a_card_of_a_run_and_of_one_that_started_from_it(folders, capsys):
    first, tuned = folders
    for folder in folders:
        cli.main(["card", str(folder)])
        assert capsys.readouterr().out == f"{folder / 'README.md'}\n"
        text = (folder / "README.md").read_text()
        accuracy = trained.report(folder / "model.keras")["test"]["accuracy"]
        for line in (
            "library_name: keras",
            "pipeline_tag: image-classification",
            'name: "own"',
            'name: "colours.npz"',
            'name: "accuracy on 24 test images"',
            f"value: {accuracy!r}",
            "# own, trained on colours.npz",
            "logits of 3 classes: red, green, blue.",
            'keras.saving.load_model("model.keras")',
            "`own`, which is not a net of tinyconv",
            "8x6 pixels",
            "This card names no licence: whoever publishes the model decides on it",
        ):
            assert line in text
        assert "\nlicense:" not in text and "\ndatasets:" not in text
        assert str(first.parent) not in text and "/home" not in text
    digest = trained.sha256(first / "model.keras")
    assert "a model of 1 epochs on colours.npz by `" in text and digest in text
    cli.main(["card", str(tuned)])  # over its own card


def test_front_matter_is_yaml(shipped):
    subject = hub_card.read(shipped)
    matter = front_matter(hub_card.page(subject))
    (result,) = matter.pop("model-index")[0]["results"]
    assert matter == {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "license": "mit",
        "tags": ["tinyconv"],
        "datasets": ["uoft-cs/cifar10"],
        "metrics": ["accuracy"],
    }
    accuracy = subject.report["test"]["accuracy"]
    assert result["metrics"][0] == {
        "type": "accuracy",
        "name": "accuracy on 10,000 test images",
        "value": accuracy,
    }
    name = 'a: "b" # {c} é 😀\n\x1b[0m\udc80 \\'
    run = subject.report["run"] | {"data": f"/home/me/{name}"}
    edit(shipped, run=run)
    matter = front_matter(hub_card.page(hub_card.read(shipped)))
    assert matter["model-index"][0]["results"][0]["dataset"] == {
        "name": 'a: "b" # {c} é 😀 [0m \\',
        "type": "custom",
        "split": "test",
    }


def test_a_card_that_somebody_wrote_or_changed_stays(shipped, capsys):
    path = shipped / "README.md"
    for text in ("mine\n", hub_card.page(hub_card.read(shipped)).replace("mit", "other"), ""):
        path.write_text(text)
        said = refusal(capsys, "card", shipped)
        assert "was not written by tinyconv card, or was changed since" in said
        assert path.read_text() == text
    path.write_bytes(b"\xff\xfe")
    assert "is not a text in UTF-8" in refusal(capsys, "card", shipped)
    path.unlink()
    path.mkdir()
    assert "is not a text in UTF-8" in refusal(capsys, "card", shipped)


def test_a_run_that_has_no_card_is_refused(shipped, tmp_path, capsys):
    assert "has no model.keras" in refusal(capsys, "card", tmp_path / "none")
    report = json.loads((shipped / "report.json").read_text())
    for changes, words in (
        ({"recipe": None}, "damaged or of another version of tinyconv (TypeError"),
        ({"classes": []}, "damaged or of another version of tinyconv (IndexError"),
        ({"timing": {}}, "'seconds_total'); restore the files of the run."),
    ):
        edit(shipped, **changes)
        assert words in refusal(capsys, "card", shipped)
        (shipped / "report.json").write_text(json.dumps(report))
    (shipped / "history.csv").write_text("epoch\n1\n")
    assert "history.csv is damaged" in refusal(capsys, "card", shipped)
    running = {key: value for key, value in report.items() if key != "test"}
    (shipped / "report.json").write_text(json.dumps(running))
    assert "finish the run first: tinyconv train --resume" in refusal(capsys, "card", shipped)
    (shipped / "report.json").write_text(json.dumps(report))
    (shipped / "model.keras").write_bytes(b"PK")
    assert "cannot be opened as a Keras model" in refusal(capsys, "card", shipped)
    assert not (shipped / "README.md").exists()


def test_a_card_of_many_classes_lists_the_weakest(shipped):
    classes = [f"{i:03}|`x" for i in range(300)] + ["accuracy"]
    figures = {"precision": 0.5, "f1-score": 0.5, "support": 10.0}
    by_class = {name: {"recall": i / 300} | figures for i, name in enumerate(classes)}
    edit(shipped, classes=classes, test_by_class=by_class | {"accuracy": 0.5})
    text = hub_card.page(hub_card.read(shipped))
    assert "logits of 301 classes: 000\\|\\`x, 001" in text
    assert "019\\|\\`x and 281 more, in `report.json`." in text
    assert "per class for the 20 classes of lowest recall:" in text
    assert text.count("| 0.500 | 0.") == 20 and len(text.splitlines()) < 100


def test_a_card_names_the_licence_of_the_weights_before(shipped):
    published = {"file": "https://x/y.pt", "sha256": "1" * 64, "name": "resnet20.osmr_c10"}
    edit(shipped, started_from=published)
    text = hub_card.page(hub_card.read(shipped))
    assert "The run started from the published weights `resnet20.osmr_c10` (sha256" in text
    assert "The licence of the weights `resnet20.osmr_c10`: " in text


@pytest.mark.slow
def test_push_and_open(stand_in, folders, npz, tmp_path, capsys):
    """The last part is what a user runs, with Keras alone and with tinyconv."""
    _, tuned = folders
    cli.main(["push", str(tuned), "hf://me/tiny", "--private"])
    assert capsys.readouterr().out.startswith("https://hub/me/tiny\n")
    assert (stand_in / "private.txt").read_text() == "True"
    files = {path.name for path in (stand_in / "me/tiny").iterdir()}
    parts = {"config.json", "metadata.json", "model.weights.h5"}
    assert files == {"model.keras", "report.json", "history.csv", "README.md"} | parts
    assert 'load_model("hf://me/tiny")' in (stand_in / "me/tiny/README.md").read_text()
    report = (stand_in / "me/tiny/report.json").read_text()
    assert str(tmp_path) not in report and str(npz.parent) not in report
    assert json.loads(report)["run"]["data"] == "./colours.npz"
    assert json.loads(report)["started_from"]["file"] == "model.keras"

    opened = trained.open_model("hf://me/tiny")
    assert opened.class_names == ("red", "green", "blue")
    assert trained.sha256(opened.file) == trained.sha256(tuned / "model.keras")
    expected = keras.saving.load_model(tuned / "model.keras").get_weights()
    in_parts = keras.saving.load_model(stand_in / "me/tiny").get_weights()
    for model in (create_model("hf://me/tiny").get_weights(), in_parts):
        for one, two in zip(model, expected, strict=True):
            np.testing.assert_array_equal(one, two)
    assert api.evaluate("hf://me/tiny", npz).accuracy == api.evaluate(tuned, npz).accuracy
    with pytest.raises(InputError, match=r"names the data \./colours\.npz, which do not exist"):
        api.evaluate("hf://me/tiny")
    with pytest.raises(InputError, match="is opened as it is, without num_classes"):
        create_model("hf://me/tiny", num_classes=5)
    again = train("hf://me/tiny", npz, **QUICK, out=tmp_path / "out")
    source = trained.report(again / "model.keras")["started_from"]
    assert source["sha256"] == trained.sha256(tuned / "model.keras")

    alone = "import keras; print(keras.saving.load_model('hf://me/tiny').output_shape)"
    path = os.pathsep.join([str(tmp_path / "lib"), str(ROOT)])
    assert run("-c", alone, PYTHONPATH=path)[0] == "(None, 3)\n"
    image = tmp_path / "red.png"
    keras.utils.save_img(image, np.full((40, 40, 3), (200, 0, 0)), scale=False)
    out, _ = run("-c", SCRIPT, "predict", "hf://me/tiny", image, "--json", PYTHONPATH=path)
    assert {answer["class"] for answer in json.loads(out)["top"]} == {"red", "green", "blue"}


def test_a_model_of_parts_alone_is_opened_by_keras(stand_in, tmp_path):
    model = keras.saving.load_model(SHIPPED / "model.keras")
    keras.saving.save_model(model, stand_in / "me/parts", zipped=False)
    opened = trained.open_model("hf://me/parts")
    assert opened.class_names is None and opened.model.output_shape == (None, 10)
    with pytest.raises(InputError, match=r"has no model\.keras to start from"):
        train("hf://me/parts", "digits", out=tmp_path / "out")


def test_no_code_of_a_repository_runs(stand_in, tmp_path):
    function = keras.layers.Lambda(lambda x: x)
    layers = (function, keras.layers.Flatten(), keras.layers.Dense(2))
    model = keras.Sequential([keras.Input((2, 2, 3)), *layers])
    keras.saving.save_model(model, stand_in / "me/parts", zipped=False)
    (stand_in / "me/whole").mkdir()
    model.save(stand_in / "me/whole/model.keras")
    for name in ("parts", "whole"):
        with pytest.raises(InputError, match="without running the code in its Lambda"):
            trained.open_model(f"hf://me/{name}")


@pytest.mark.slow
def test_the_card_that_the_user_changed_is_uploaded(stand_in, shipped, capsys):
    cli.main(["card", str(shipped)])
    path = shipped / "README.md"
    text = path.read_text().replace("license: mit", "license: apache-2.0")
    path.write_text(text)
    cli.main(["push", str(shipped), "hf://me/resnet"])
    assert (stand_in / "me/resnet/README.md").read_text() == text
    path.write_text(text.replace(trained.sha256(shipped / "model.keras"), "0" * 64))
    said = refusal(capsys, "push", shipped, "hf://me/other")
    assert "describes another model.keras" in said
    path.write_text("# mine\n")
    said = refusal(capsys, "push", shipped, "hf://me/other")
    assert "has no front matter for the Hub; move it away" in said
    assert not (stand_in / "me/other").exists()


def test_what_cannot_be_pushed_or_opened_is_one_sentence(stand_in, shipped, capsys, monkeypatch):
    for address in ("me/tiny", "hf://tiny", "hf://a/b/c", "hf://a/b c", "hf://", "hf://../b/"):
        words = "is not the address of a model on the Hub: hf://USER/NAME."
        assert words in refusal(capsys, "push", shipped, address)
    assert "is not the address" in refusal(capsys, "evaluate", "hf://tiny")
    said = refusal(capsys, "evaluate", "hf://me/none")
    assert "hf://me/none cannot be downloaded (404 Client Error); check the name" in said
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    said = refusal(capsys, "push", shipped, "hf://me/tiny")
    assert "cannot be written (403 Forbidden: this token may not write); check" in said
    monkeypatch.delenv("HF_TOKEN")
    assert "needs a token that may write" in refusal(capsys, "push", shipped, "hf://me/tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    with (shipped / "model.keras").open("r+b") as file:
        file.seek(-60_000, os.SEEK_END)  # in the weights
        file.write(bytes(2000))
    said = refusal(capsys, "push", shipped, "hf://me/tiny")
    assert "cannot be opened as a Keras model" in said and list(stand_in.iterdir()) == []
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for arguments in (("push", shipped, "hf://me/tiny"), ("evaluate", "hf://me/tiny")):
        assert "pip install 'tinyconv[hub]'" in refusal(capsys, *arguments)


def test_a_history_of_another_length_is_named(shipped):
    with (shipped / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows[-1]["learning_rate"] = "9"
    with (shipped / "history.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    sentence = f"The first {len(rows)} epochs had the learning rates of a run of another length."
    assert sentence in hub_card.page(hub_card.read(shipped))


def test_modules_of_the_hub_import_no_keras():
    script = "import tinyconv.hub, tinyconv.hub_card, sys; assert 'keras' not in sys.modules"
    run("-c", script)
    assert hub.repository("hf://a-b/c.d_e") == "a-b/c.d_e"
