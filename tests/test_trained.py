"""Models that ship: from a checkout, from a wheel, and when somebody has been at them."""

import importlib.util
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, run

from tinyconv import create_model, trained
from tinyconv.errors import InputError

NET = "cifar10_tiny"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of models/ that `trained` takes for the real one."""
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("*-*"))
    monkeypatch.setattr(trained, "folder", lambda: tmp_path / "models")
    return tmp_path / "models"


@pytest.mark.slow
def test_every_model_that_ships_is_the_one_in_the_table():
    assert NET in trained.shipped()
    for name in trained.shipped():
        assert trained.path(name) == ROOT / "models" / name / "model.keras"
        assert trained.open_model(name).class_names == tuple(
            trained.report(trained.path(name))["classes"]
        )


def test_pretrained_is_the_file_to_the_bit():
    theirs = keras.models.load_model(ROOT / "models" / NET / "model.keras")
    ours = create_model(NET, pretrained=True)
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    rates = [[x.rate for x in net.layers if hasattr(x, "rate")] for net in (ours, theirs)]
    assert rates[0] == rates[1] == [0.0] * 8  # trained without dropout


def test_pretrained_under_another_head_and_at_another_size():
    whole = create_model(NET, pretrained=True)
    for changes, alike in (
        ({"num_classes": 3}, len(whole.weights) - 2),
        ({"num_classes": 0}, len(whole.weights) - 2),
        ({"input_shape": (48, 40, 3)}, len(whole.weights)),
    ):
        model = create_model(NET, pretrained=True, **changes)
        for one, other in list(zip(model.weights, whole.weights, strict=False))[:alike]:
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    head = create_model(NET, num_classes=3, pretrained=True).layers[-1]
    assert head.kernel.shape == (128, 3) and np.ptp(head.kernel.numpy()) > 0


def test_a_tampered_model_is_refused(copy):
    file = copy / NET / "model.keras"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="is not the file that shipped, as its sha256 tells"):
        create_model(NET, pretrained=True)
    file.unlink()
    with pytest.raises(InputError, match="is not the file that shipped"):
        trained.open_model(NET)


def test_without_shipped_models_pretrained_is_refused(copy):
    shutil.rmtree(copy)
    with pytest.raises(InputError, match=r"No weights ship for cifar10_tiny \(none do here\)"):
        create_model(NET, pretrained=True)


@pytest.mark.parametrize("content", ["{", "[]", '{"classes": ["one"]}', '{"classes": 3}'])
def test_class_names_come_from_a_report_that_fits(copy, content):
    (copy / NET / "report.json").write_text(content)
    if content == "{":
        with pytest.raises(InputError, match=r"report.json is damaged"):
            trained.open_model(NET)
    elif "one" in content:
        with pytest.raises(
            InputError, match=r"has 10 outputs, but the report.json beside it names 1"
        ):
            trained.open_model(NET)
    else:
        assert trained.open_model(NET).class_names is None


def test_data_in_a_report_that_are_no_path_are_none(copy):
    (copy / NET / "report.json").write_text('{"run": {"data": 5}}')
    assert trained.open_model(NET).data is None


def test_a_lone_file_has_no_class_names(tmp_path):
    shutil.copy(ROOT / "models" / NET / "model.keras", tmp_path / "mine.keras")
    shutil.copy(ROOT / "models" / NET / "report.json", tmp_path)
    assert trained.open_model(str(tmp_path / "mine.keras")).class_names is None


@pytest.mark.slow
def test_an_installed_wheel_brings_them_and_trains(tmp_path):
    """Built from a copy of what git tracks, beside a run of one's own, and used far from it."""
    source = tmp_path / "source"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True)
    if files.returncode:
        pytest.skip("this is no git checkout to build a wheel of")
    for name in files.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    (source / "models/20261121-100000-mine").mkdir()
    (source / "models/20261121-100000-mine/model.keras").write_bytes(b"mine")
    pip = (sys.executable, "-m", "pip", "--quiet", "--retries", "1")
    build = (*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source)
    built = subprocess.run(build, capture_output=True, text=True)
    if "No matching distribution found for setuptools" in built.stderr:
        pytest.skip("setuptools, which builds the wheel, cannot be downloaded here")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")

    venv.create(tmp_path / "venv", with_pip=False)
    python = next((tmp_path / "venv").glob("[bS]*/python*"))
    (site,) = (tmp_path / "venv").glob("[lL]ib/**/site-packages")
    here = Path(keras.__file__).parents[1]  # its dependencies, without a network
    (site / "dependencies.pth").write_text(str(here))
    install = (*pip, "install", "--no-deps", "--no-index", "--target", site, wheel)
    subprocess.run(install, check=True)
    assert not (site / "tinyconv/models/20261121-100000-mine").exists()
    app = (
        "import tinyconv, pathlib\n"
        f"assert pathlib.Path(tinyconv.__file__).is_relative_to({str(site)!r})\n"
        f"print(tinyconv.create_model({NET!r}, pretrained=True).count_params())"
    )
    used = subprocess.run(
        [python, "-I", "-c", app], cwd=tmp_path, text=True, capture_output=True, timeout=300
    )
    assert used.stdout == "170282\n", used.stderr

    train = ("train", "--model", "resnet20", "--data", "digits", "--epoch", "1", "--batch", "449")
    trained = subprocess.run(
        [python, "-I", "-m", "tinyconv", *train], cwd=tmp_path, text=True, capture_output=True
    )
    assert trained.returncode == 0, trained.stderr
    assert list(tmp_path.glob("models/*-resnet20-digits/model.keras"))


def load_cards():
    spec = importlib.util.spec_from_file_location("cards", ROOT / "models/cards.py")
    cards = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cards)
    return cards


def test_a_card_says_what_its_model_began_as():
    cards = load_cards()
    report = cards.shipped()[NET]
    first = {"file": "mine.keras", "sha256": "1" * 64}
    made = {"run": {"data": "digits", "recipe": "finetune"}, "epochs": 20, "started_from": first}
    report |= {"epochs": 5, "started_from": {"file": "b.keras", "sha256": "2" * 64} | made}
    assert (
        " The run started from a model of 20 epochs on digits by `finetune` (sha256 "
        f"`{'2' * 64}`). That model started from a model of unknown training (sha256 `{'1' * 64}`)."
    ) in cards.card(NET, report)
    assert "after ? + 20 + 5 epochs" in cards.nets({NET: report})


def test_a_card_names_the_teacher():
    cards = load_cards()
    report = cards.shipped()[NET]
    run = {"model": "tiniest", "data": "cifar10", "recipe": "tiniest_muon"}
    made = {"run": run, "epochs": 75}
    report |= {"teacher": {"file": "/home/me/model.keras", "sha256": "3" * 64} | made}
    report["recipe"] = report["recipe"] | {"teacher_weight": 0.6, "temperature": 2.0}
    assert (
        "- **Teacher**: tiniest, a model of 75 epochs on cifar10 by `tiniest_muon` (sha256 "
        f"`{'3' * 64}`). Its outputs have a share of 0.6 in the loss, at temperature 2.0."
    ) in cards.card(NET, report)


def test_a_card_has_no_path_of_the_machine():
    cards = load_cards()
    report = cards.shipped()[NET]
    made = {"run": {"data": "/home/me/digits", "recipe": "finetune"}, "epochs": 20}
    first = {"file": "/home/me/b.keras", "sha256": "2" * 64} | made
    report |= {"run": report["run"] | {"data": "/home/me/photos"}, "started_from": first}
    text = cards.card(NET, report) + cards.nets({NET: report})
    assert "/home" not in text
    for words in (f"# {NET}, trained on photos", "**Data**: photos, ", "20 epochs on digits by"):
        assert words in text


@pytest.mark.slow
def test_cards_checksums_and_the_tables_of_nets_are_those_of_today():
    run("models/cards.py", "--check")


def test_a_table_of_nets_is_written_where_its_markers_are(tmp_path, monkeypatch):
    cards = load_cards()
    reports = cards.shipped()
    monkeypatch.setattr(cards, "ROOT", tmp_path)
    monkeypatch.setattr(cards, "README", tmp_path / "README.md")
    monkeypatch.setattr(cards, "MODELS", tmp_path / "models")
    monkeypatch.setattr(cards, "TABLES", dict.fromkeys(cards.TABLES, lambda _, page: page.name))
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "nets.md"
    page.write_text("a\n<!-- nets: models/cards.py -->\nold\n<!-- /nets -->\nb\n")
    cards.README.write_text("<!-- timm: models/cards.py -->\n<!-- /timm -->\n")
    assert cards.pages(reports) == {
        page: "a\n<!-- nets: models/cards.py -->\nnets.md\n<!-- /nets -->\nb\n",
        cards.README: "<!-- timm: models/cards.py -->\nREADME.md\n<!-- /timm -->\n",
    }
    cards.README.write_text("<!-- nets: models/cards.py -->\n<!-- /nets -->\n")
    with pytest.raises(InputError, match="needs one line <!-- nets: models/cards"):
        cards.pages(reports)


def test_a_table_of_nets_links_cards_from_its_page():
    cards = load_cards()
    reports = cards.shipped()
    assert f"](models/{NET}/README.md)" in cards.nets(reports)
    assert f"](../models/{NET}/README.md)" in cards.nets(reports, ROOT / "docs/nets.md")
