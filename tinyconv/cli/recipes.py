"""List the recipes, or print one as the TOML file to start from."""

import argparse

EXAMPLES = """
  tinyconv recipes
  tinyconv recipes muon > mine.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a recipe, or a FILE.toml to check")


def main(args: argparse.Namespace) -> None:
    from tinyconv import recipe_files
    from tinyconv.recipes import RECIPES
    from tinyconv.table import table

    if args.name is not None:
        print(recipe_files.to_toml(recipe_files.find(args.name)), end="")
        return
    rows: list[tuple[str, ...]] = [
        ("recipe", "epochs", "batch size", "optimizer", "learning rate", "augmentation")
    ]
    for recipe in RECIPES.values():
        figures = (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.learning_rate)
        names = ", ".join(recipe.augment) + ("" if recipe.always_augment else " (by --augment)")
        rows.append((recipe.name, *map(str, figures), names))
    print(table(rows))
