"""The rules of the house, read off the source of every module under tinyconv/."""

import ast
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "tinyconv"
ROOMS_OF_TENSORFLOW = ("data/", "devices.py", "exporters/", "fast/", "timing/")
TENSORFLOW = ("tensorflow", "tensorflow_datasets")
ROOM_OF_KERNELS = "fast/"

TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def module(path):
    """The dotted name of a module by its path within the package."""
    parts = Path("tinyconv", path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in TREES}


def imported(path, node):
    """The dotted names of what an import statement in the module at `path` names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    start = node.module or ""
    if node.level:
        package = module(path).split(".")
        package = package if path.endswith("__init__.py") else package[:-1]
        package = package[: len(package) - node.level + 1]
        start = ".".join([*package, *([start] if start else [])])
    return [f"{start}.{alias.name}" for alias in node.names]


def is_type_checking(node):
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def at_module_level(tree):
    """The statements that run when a module is imported: those in functions do not."""
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        yield from at_module_level(node)


def modules_of(name):
    """The module of this package that has `name`, if one does: itself, or what is in it."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def circle(edges):
    """A path from a module back to itself, if there is one."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for other in sorted(edges.get(name, ())):
            if found := visit(other):
                return found
        done.add(path.pop())
        return None

    return next((found for name in sorted(edges) if (found := visit(name))), None)


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_modules_import_one_another_in_no_circle():
    edges = {}
    for path, tree in TREES.items():
        names = [name for node in at_module_level(tree) for name in imported(path, node)]
        edges[module(path)] = {modules_of(name) for name in names} - {"", module(path)}
    assert edges["tinyconv.weights"] >= {"tinyconv.registry", "tinyconv.weights.layouts"}
    assert circle(edges) is None


def test_the_registry_holds_facts_and_imports_none_of_their_readers():
    """Not in a function either: `trained`, `weights` and `factory` import it."""
    facts = {"registry.py", "rows.py", "facts.py"}
    names = [name for path in facts for n in ast.walk(TREES[path]) for name in imported(path, n)]
    found = {modules_of(name) for name in names} - {""}
    assert found == {"tinyconv.errors", "tinyconv.rows", "tinyconv.facts"}


def test_no_module_over_300_lines():
    lines = {path: len((PACKAGE / path).read_text(encoding="utf-8").splitlines()) for path in TREES}
    long = {
        path: n for path, n in lines.items() if n > 300 and not path.startswith(ROOM_OF_KERNELS)
    }
    assert long == {}


def test_no_function_over_60_lines_beside_its_docstring():
    long = {}
    for path, tree in TREES.items():
        if path.startswith(ROOM_OF_KERNELS):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node):
                    text = node.body[0]
                    lines -= text.end_lineno - text.lineno + 1
                if lines > 60:
                    long[f"{path}: {node.name}"] = lines
    assert long == {}


def imports_tensorflow(path, nodes):
    names = [name for node in nodes for name in imported(path, node)]
    return any(name.partition(".")[0] in TENSORFLOW for name in names)


def test_tensorflow_is_imported_in_its_rooms_alone():
    found = [path for path, tree in TREES.items() if imports_tensorflow(path, ast.walk(tree))]
    assert "devices.py" in found
    others = [path for path in found if not path.startswith(ROOMS_OF_TENSORFLOW)]
    assert others == []


def test_tensorflow_is_imported_when_it_is_needed():
    found = [p for p, tree in TREES.items() if imports_tensorflow(p, at_module_level(tree))]
    assert found == []


def test_nets_know_of_layers_alone():
    """An architecture knows nothing of data, training, weights or TensorFlow."""
    for path, tree in TREES.items():
        if path.startswith("nets/"):
            names = {name for node in ast.walk(tree) for name in imported(path, node)}
            known = ("keras.", "re.", "tinyconv.layers.", "tinyconv.nets.")
            assert {name for name in names if not f"{name}.".startswith(known)} == set(), path
