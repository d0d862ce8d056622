"""Recipes of one's own: as a TOML file, or as changes of another recipe."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tinyconv import recipes
from tinyconv.errors import InputError, unknown
from tinyconv.recipe import FIELDS, OPTIONAL, Recipe

NONE = "none"  # TOML has no null
ABOUT = ("name", "source", "expected")
UNKNOWN = "not measured"


def find(recipe: str | Path | Recipe) -> Recipe:
    """Get a recipe by its name or from its file. A `Recipe` is returned as it is.

    Args:
        recipe: an entry of `tinyconv.recipes.RECIPES`, the path of a `.toml` file, or a `Recipe`.

    Raises:
        InputError: the recipe does not exist, or the file is wrong.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Path) or recipe.lower().endswith(".toml"):
        return read(Path(recipe))
    return recipes.get(recipe)


def read(path: Path) -> Recipe:
    """Read a recipe from a TOML file.

    The file has the fields of `Recipe`. With `base`, the name of a recipe, it may have only some of
    them. The text "none" stands for None.

    Args:
        path: the file.

    Raises:
        InputError: the file does not exist or is not TOML, a field is missing, unknown or wrong, or
            two fields contradict each other.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a TOML file ({error}).") from error
    for name in given:
        if name not in FIELDS and name != "base":
            raise unknown(f"field in {path}:", name, ["base", *FIELDS])
    base = given.pop("base", None)
    if not (base is None or isinstance(base, str)):
        raise InputError(f"base in {path} is {base}; it must be the name of a recipe.")
    about = {"name": path.stem, "source": path.name, "expected": UNKNOWN}
    values = {name: _value(name, value) for name, value in given.items()}
    if base is not None:
        about["source"] += f", from the recipe {base}"
        return check(_changed(recipes.get(base), values, about))
    required = {name for name in FIELDS if not hasattr(Recipe, name)}
    if missing := sorted(required - {*values, *about}):
        raise InputError(
            f'{path} has no {missing[0]}; add it, or change another recipe by base = "muon".'
        )
    return check(Recipe(**about | values))


def changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Change fields of a recipe.

    Args:
        recipe: the recipe.
        settings: the new value of each field. A text is converted to the type of the field: "0.01",
            "true", "crop,flip" or "none".

    Returns:
        The changed recipe. Its name has the changes.

    Raises:
        InputError: a field is unknown or wrong, or two fields contradict each other.
    """
    for name in settings:
        if name not in FIELDS:
            raise unknown("setting", name, FIELDS)
    values = {name: _parsed(name, value) for name, value in settings.items()}
    words = ", ".join(
        f"{name}={settings[name]}" for name in values if values[name] != getattr(recipe, name)
    )
    about = {"name": f"{recipe.name} with {words}", "expected": UNKNOWN}
    return check(_changed(recipe, values, about))


def _changed(recipe: Recipe, values: dict[str, Any], about: dict[str, str]) -> Recipe:
    """`recipe` with new `values`. If they change it, it has the name, ... of `about`, too."""
    new = replace(recipe, **about | values)
    return new if any(getattr(new, name) != getattr(recipe, name) for name in values) else recipe


def check(recipe: Recipe) -> Recipe:
    """Check that each field of a recipe has an effect beside the other fields.

    Raises:
        InputError: a field has no effect.
    """
    start = f"The recipe {recipe.name!r} has"
    if recipe.final_learning_rate is None and (recipe.warmup or recipe.initial_learning_rate):
        raise InputError(
            f"{start} a warmup without a final_learning_rate, and its learning rate is therefore "
            "constant; give final_learning_rate, too, or set warmup and initial_learning_rate to 0."
        )
    if recipe.initial_learning_rate and not recipe.warmup:
        raise InputError(
            f"{start} an initial_learning_rate without a warmup; give warmup, too, or set "
            "initial_learning_rate to 0."
        )
    if recipe.optimizer == "adam" and recipe.weight_decay:
        raise InputError(
            f"{start} the optimizer adam, which has no weight decay; set the optimizer to adamw or "
            "the weight_decay to 0."
        )
    return recipe


def _value(name: str, value: Any) -> Any:
    return None if name in OPTIONAL and value == NONE else value


def _parsed(name: str, value: Any) -> Any:
    """The value that a text stands for, or the text itself if it has the wrong form."""
    if not isinstance(value, str) or _value(name, value) is None:
        return _value(name, value)
    kind = FIELDS[name]
    if kind is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if kind is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return kind(value)
    except ValueError:
        return value


def to_toml(recipe: Recipe) -> str:
    """A recipe as the content of a TOML file, from which `read` makes the equal recipe.

    The file of a recipe of `tinyconv.recipes.RECIPES` has `base` instead of the name, the source
    and the expected accuracy, because these are not those of a changed recipe.
    """
    values = asdict(recipe)
    lines = []
    if recipes.RECIPES.get(recipe.name) == recipe:
        about = [f"# {key}: {values.pop(key)}" for key in ABOUT[1:]]
        lines = [*about, f"base = {_toml(values.pop('name'))}", ""]
    lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value in TOML. The texts, booleans and lists of JSON are those of TOML."""
    if isinstance(value, float):
        return repr(value)
    text = NONE if value is None else value
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
