"""Recipes of one's own: files and settings."""

import json
from dataclasses import replace
from functools import partial

import pytest
from conftest import command
from test_training import killed_and_resumed, only_run, same_weights, train

from tinyconv import recipe_files, recipes
from tinyconv.errors import InputError
from tinyconv.recipe import FIELDS
from tinyconv.training import train as training

ODD = replace(
    recipes.get("tiniest"), name='a "name",\n\x7f ü', learning_rate=1e-7, ema=None, augment=()
)


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("recipe", [*recipes.RECIPES.values(), ODD], ids=lambda recipe: recipe.name)
def test_the_printed_toml_read_back_is_the_recipe(recipe, tmp_path):
    text = recipe_files.to_toml(recipe)
    assert recipe_files.read(write(tmp_path / "same.toml", text)) == recipe
    if recipe is not ODD:
        assert command("recipes", recipe.name)[0] == text


def test_the_list_has_every_recipe():
    rows = command("recipes")[0].splitlines()
    assert [row.split()[0] for row in rows[1:]] == list(recipes.RECIPES)


def test_a_changed_printout_has_a_name_of_its_own_and_no_accuracy(tmp_path):
    text = recipe_files.to_toml(recipes.get("muon")).replace("0.006", "0.005")
    found = recipe_files.read(write(tmp_path / "mine.toml", text))
    about = {"name": "mine", "source": "mine.toml, from the recipe muon"}
    expected = replace(recipes.get("muon"), learning_rate=0.005, expected="not measured", **about)
    assert found == expected


def test_a_file_without_a_base_needs_the_fields_without_a_default(tmp_path):
    lines = {
        "epochs": "3",
        "batch_size": "8",
        "optimizer": "'sgd'",
        "learning_rate": "1",
        "augment": "['flip']",
        "always_augment": "true",
    }
    path = write(tmp_path / "mine.toml", "\n".join(f"{k} = {v}" for k, v in lines.items()))
    found = recipe_files.read(path)
    assert (found.name, found.source, found.learning_rate) == ("mine", "mine.toml", 1.0)
    for name in lines:
        rest = "\n".join(f"{k} = {v}" for k, v in lines.items() if k != name)
        with pytest.raises(InputError, match=rf"mine.toml has no {name}; add it, or change"):
            recipe_files.read(write(path, rest))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            'learning_rate = "0.1"',
            "learning_rate of recipe 'mine' is '0.1'; it must be a number.",
        ),
        ("learning_rate = true", "is True; it must be a number."),
        ("learning_rate = nan", "is nan; it must be above 0."),
        ("learning_rate = []", "is []; it must be a number."),
        ("learning_rate = 2026-11-25", "is 2026-11-25; it must be a number."),
        (f"learning_rate = 1{'0' * 400}", "it must be above 0."),
        ("learning_rate = 'none'", "is 'none'; it must be a number."),
        ("epochs = 2.5", "The epochs of recipe 'mine' is 2.5; it must be a whole number above 0."),
        ("augment = 'crop'", "is 'crop'; it must be a list of names."),
        ("augment = [1]", "is [1]; it must be a list of names."),
        ("always_augment = 1", "is 1; it must be true or false."),
        ("optimizer = 'adan'", "Unknown optimizer 'adan': did you mean 'adam'?"),
        ("batchsize = 8", "mine.toml: 'batchsize': did you mean 'batch_size'?"),
        ("[recipe]", "Unknown field in"),
        ("base = 'moun'", "Unknown recipe 'moun': did you mean 'muon'?"),
        ("base = 3", "is 3; it must be the name of a recipe."),
        ("warmup = 0", "has an initial_learning_rate without a warmup; give warmup, too, or set"),
        ("epochs", "is not a TOML file (Expected '='"),
        ("epochs = 1\nepochs = 2", "is not a TOML file (Cannot overwrite a value"),
        ("a = " + 5000 * "[", "is not a TOML file"),
    ],
)
def test_a_wrong_file_is_refused_before_a_folder_is_made(content, sentence, tmp_path):
    base = "" if "base" in content else "base = 'tiniest'\n"
    path = write(tmp_path / "mine.toml", base + content)
    _, said = command("train", "--recipe", path, "--out", tmp_path / "runs", status=2)
    assert sentence in said and len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_text_is_no_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    for wrong in (path, tmp_path):
        with pytest.raises(InputError, match="is not a TOML file"):
            recipe_files.find(wrong)


def test_settings_have_the_types_of_their_fields():
    changes = {"ema": "none", "augment": "crop, flip", "drop_remainder": "False", "epochs": "3"}
    found = recipe_files.changed(recipes.get("tiniest"), changes)
    assert (found.ema, found.augment) == (None, ("crop", "flip"))
    assert (found.drop_remainder, found.epochs) == (False, 3)
    words = "ema=none, augment=crop, flip, drop_remainder=False, epochs=3"
    assert (found.name, found.expected) == (f"tiniest with {words}", "not measured")
    texts = {name: "x" for name, kind in FIELDS.items() if kind is str and name != "optimizer"}
    assert recipe_files.changed(recipes.get("tiniest"), texts).source == "x"
    assert recipe_files.changed(recipes.get("tiniest"), {"mixup": "0.5"}) == recipes.get("tiniest")


def test_a_killed_run_resumes_with_the_file_and_the_settings_of_its_report(small, npz, tmp_path):
    path = write(tmp_path / "mine.toml", "base = 'muon'\nwarmup = 0.25")
    settings = {"learning_rate": "0.01", "augment": "flip"}
    options = {"recipe": path, "settings": settings, "model": small, "data": npz, "epochs": 2}
    run = partial(training.train, **options)
    whole, killed = killed_and_resumed(run, tmp_path, before_resume=path.unlink)
    for folder in (whole, killed):
        report = json.loads((folder / "report.json").read_text())
        assert report["run"]["recipe"] == "mine with learning_rate=0.01, augment=flip"
        figures = {name: report["recipe"][name] for name in ("warmup", "learning_rate", "augment")}
        assert figures == {"warmup": 0.25, "learning_rate": 0.01, "augment": ["flip"]}
    other = train(npz, "muon", 2, 32, True, tmp_path / "other", model=small)
    with pytest.raises(AssertionError):
        same_weights(whole, other)


def test_the_command_takes_both(small, npz, tmp_path):
    path = write(tmp_path / "mine.toml", "base = 'muon'\nepochs = 1")
    settings = ("--set", "learning_rate=0.01", "--set", "augment=flip")
    given = ("--model", small, "--data", npz, "--recipe", path, *settings)
    command("train", *given, "--out", tmp_path / "runs")
    report = json.loads((only_run(tmp_path / "runs") / "report.json").read_text())
    assert report["run"]["recipe"] == "mine with learning_rate=0.01, augment=flip"
    assert (report["epochs"], report["recipe"]["warmup"]) == (1, 0.05)
