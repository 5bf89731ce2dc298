"""The house's laws: who imports whom, what a bare import brings, what the package contains, and that every example runs."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_ext
from keras_ext import _backend

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(keras_ext.__path__, "keras_ext.")
    if "._backend." not in m.name and not m.name.endswith("__main__")
)
FRAMEWORKS = {"tensorflow", "jax", "torch"}
ROOMS = [getattr(keras_ext, name) for name in ("layers", "initializers", "optimizers", "schedules", "tables", "callbacks")]


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def sources() -> list[Path]:
    return [p for folder in ("keras_ext", "callbacks", "keras_ext_cli") for p in sorted((ROOT / folder).rglob("*.py"))]


def test_only_the_backend_room_imports_frameworks():
    outside = [p for p in sources() if "_backend" not in p.parts]
    assert len(outside) > 20
    assert {str(p): imported(p) & FRAMEWORKS for p in outside if {n.split(".")[0] for n in imported(p)} & FRAMEWORKS} == {}


def test_one_file_imports_private_modules_of_keras_and_keras_tuner():
    users = {p.name for p in sources() for n in imported(p) if n.startswith(("keras.src", "keras_tuner.src"))}
    assert users == {"keras_private.py"}


def test_rooms_import_downwards_only():
    level = {
        "_arrays": 0,
        "_atomic": 0,
        "_checks": 0,
        "_config": 0,
        "_wording": 0,
        "_backend": 0,
        "layers": 1,
        "initializers": 1,
        "optimizers": 1,
        "schedules": 1,
        "remedies": 2,
        "tables": 2,
        "callbacks": 3,
        "repair": 4,
        "search": 5,
        "parallel": 6,
        "automl": 7,
        "commands": 8,
    }
    wrong = []
    for path in sources():
        room = path.relative_to(ROOT).parts[0 if path.parts[len(ROOT.parts)] != "keras_ext" else 1].removesuffix(".py")
        if room not in level:
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "keras_ext" and len(parts) > 1 and parts[1] in level and parts[1] != room and level[parts[1]] >= level[room] > 0:
                wrong.append((str(path), name))
    assert wrong == []


def test_what_the_monitor_snapshots_with_knows_no_judgement_and_what_judges_shows_nothing():
    later = {"probe": ("rules", "report"), "rules": ("report",)}
    files = [(room, path) for room in later for path in (ROOT / "callbacks/monitor" / room).glob("*.py")]
    assert len(files) > 12
    wrong = [
        (str(p), n)
        for room, p in files
        for n in imported(p)
        if n.startswith(tuple(f"keras_ext.callbacks.monitor.{r}" for r in later[room]))
    ]
    assert wrong == []


def test_trials_are_chosen_without_the_report_and_trained_together_without_either():
    later = {"together": ("tuners", "report", "watch"), "tuners": ("report",)}
    files = [(room, path) for room in later for path in (ROOT / "keras_ext/search" / room).glob("*.py")]
    assert len(files) > 20
    wrong = [
        (str(p), n) for room, p in files for n in imported(p) if n.startswith(tuple(f"keras_ext.search.{other}" for other in later[room]))
    ]
    assert wrong == []


def test_a_bare_import_brings_no_search():
    searches = ("keras_ext.search", "keras_ext.parallel", "keras_ext.automl")
    users = {p.relative_to(ROOT).parts[1] for p in sources() if any(n.startswith(searches) for n in imported(p))}
    assert users == {"search", "parallel", "automl", "commands"}


def test_the_files_of_the_backend_room_offer_the_same_functions():
    trees = {name: ast.parse((ROOT / f"keras_ext/_backend/{name}.py").read_text(encoding="utf-8")) for name in sorted(FRAMEWORKS)}
    offered = {
        name: {
            node.name: ast.unparse(node.args) for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        }
        for name, tree in trees.items()
    }
    assert offered["jax"] == offered["tensorflow"] == offered["torch"]
    assert offered["jax"].keys() <= vars(_backend).keys()


@pytest.mark.backend_free
def test_the_package_imports_no_framework_that_keras_and_the_libraries_do_not():
    # TensorFlow itself imports JAX where it finds it.
    code = f"import keras, keras_tuner, sklearn.datasets, sys; {{}} print([m for m in {sorted(FRAMEWORKS)} if m in sys.modules])"

    def frameworks(more: str) -> str:
        return subprocess.run([sys.executable, "-c", code.format(more)], capture_output=True, text=True, check=True).stdout

    assert frameworks("import keras_ext, keras_ext.commands.search;") == frameworks("")


def test_callbacks_are_found_as_a_part_of_the_package_only(tmp_path):
    code = "import importlib.util, keras_ext.callbacks as c; print(c.__name__, importlib.util.find_spec('callbacks'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["keras_ext.callbacks", "None"]


def test_the_package_list_names_every_folder():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    inside = {ROOT / "keras_ext" / p.parent.relative_to(ROOT) for p in (ROOT / "callbacks").rglob("__init__.py")}
    folders = {p.parent for name in ("keras_ext", "keras_ext_cli") for p in (ROOT / name).rglob("__init__.py")} | inside
    for folder in folders:
        assert f'"{".".join(folder.relative_to(ROOT).parts)}"' in text


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    if name in ("keras_ext.parallel.cluster", "keras_ext.parallel.ray_workers"):
        pytest.importorskip("ray")
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


@pytest.mark.parametrize(
    "room", [keras_ext.layers, keras_ext.initializers, keras_ext.optimizers, keras_ext.schedules, keras_ext.tables, keras_ext.callbacks]
)
def test_every_public_name_has_a_docstring_and_its_class_an_example(room):
    for name in room.__all__:
        thing = getattr(room, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing) and name not in ("Finding", "Limits"):
            assert ">>>" in thing.__doc__, name


def test_nothing_is_left_open():
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("TODO", "FIXME", "NotImplementedError")), path


def test_no_docstring_begins_with_a_nominal_clause():
    begins = re.compile(r"(What|Who|That which) ")
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and begins.match(ast.get_docstring(node) or ""):
                found.append(f"{path.name}: {ast.get_docstring(node)[:40]}")
    assert found == []
