"""The architecture: who may import whom, and what nobody may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sizeforensics

HOUSE = Path(sizeforensics.__file__).parent
MODULES = sorted(HOUSE.rglob("*.py"))

# From the ground up. A module imports from lower floors and, inside a folder, from its own floor.
FLOORS = [
    {"escape", "limits", "spelling", "collector"},
    {"errors"},
    {"units", "terminal"},
    {"source"},
    {"spans", "dtypes", "versions"},
    {"excerpts", "layout"},
    {"inventory", "bags"},
    {"views", "program_data"},
    {"content", "removal"},
    {"fingerprints"},
    {"formats", "matching", "causes"},
    {"ledger"},
    {"attribution", "findings"},
    {"snapshot", "budget", "live"},
    {"report"},
    {"frames"},
    {"api"},
    {"cli", "pytest_plugin"},
    {"__main__"},
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}
APART = {"formats", "matching"}
RENDERERS = {"console", "html", "markdown", "figures", "json", "csv", "catalogue"}
VERDICTS = {"console", "markdown", "json", "junit", "github"}
FORMATS = {
    "snapshot", "pytorch", "pytorch_tar", "legacy", "bare_pickle", "torchscript", "model_json", "torch_export",
    "onnx", "safetensors",
}  # fmt: skip
SHARED = {"encodings": set(), "torch_parts": {"encodings"}, "onnx_parts": {"encodings"}}
"""Folders of ``formats`` and which of the other folders each may import."""
TIERS = {
    "quantization": set(), "constants": set(), "folding": {"quantization"}, "parts": {"folding"},
}  # fmt: skip
"""Folders of ``matching``, likewise."""
HEAVY = {"pandas", "matplotlib", "onnx", "torch", "rich", "ml_dtypes"}


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(nodes):
    """Dotted names of what the nodes import; ``from a import b`` counts as ``a`` and ``a.b``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor plan"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def for_types_only(module):
    return {
        inner
        for node in ast.walk(module)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imported_by(path):
    """Modules of this package, as paths from its root, that a module imports when it runs."""
    module = tree(path)
    hidden = for_types_only(module)
    for name in imports(node for node in ast.walk(module) if node not in hidden):
        first, *parts = name.split(".")
        if first == "sizeforensics" and parts:
            yield tuple(parts)


def place(path):
    return path.relative_to(HOUSE).with_suffix("").parts


def by_path(path):
    return "/".join(place(path))


every_module = pytest.mark.parametrize("path", MODULES, ids=by_path)


def test_every_module_has_a_floor():
    assert {place(path)[0] for path in MODULES} - {"__init__"} <= set(FLOOR_OF)


@every_module
def test_imports_go_down(path):
    own = place(path)[0]
    if own == "__init__":
        return
    for parts in imported_by(path):
        if parts[0] not in FLOOR_OF or parts[0] == own:
            continue
        assert FLOOR_OF[parts[0]] < FLOOR_OF[own], f"{own} imports {'.'.join(parts)}"


@pytest.mark.parametrize("own", sorted(APART))
def test_formats_and_matching_do_not_know_each_other(own):
    for path in (HOUSE / own).rglob("*.py"):
        assert not [parts for parts in imported_by(path) if parts[0] in APART - {own}]


def test_only_the_interface_reads_formats():
    for path in MODULES:
        if place(path)[0] in ("formats", "api", "cli", "pytest_plugin"):
            continue
        assert not [parts for parts in imported_by(path) if parts[0] == "formats"], by_path(path)


@pytest.mark.parametrize(
    ("folder", "apart"),
    [("report", RENDERERS), ("report/verdicts", VERDICTS), ("formats", FORMATS)],
)
def test_siblings_that_never_import_each_other(folder, apart):
    above = tuple(folder.split("/"))
    for path in (HOUSE / folder).glob("*.py"):
        if path.stem in apart:
            inside = [parts[len(above):] for parts in imported_by(path) if parts[: len(above)] == above]
            others = {parts[0] for parts in inside if parts}
            assert not others & (apart - {path.stem}), by_path(path)


def test_every_format_is_known_here():
    own = {path.stem for path in (HOUSE / "formats").glob("*.py")}
    assert own - FORMATS == {"__init__", "recognise", "notes", "beside", "odd_names"}


@pytest.mark.parametrize("folder", sorted(SHARED))
def test_folders_of_formats_import_down(folder):
    for path in (HOUSE / "formats" / folder).glob("*.py"):
        parts = {parts[1] for parts in imported_by(path) if parts[0] == "formats" and parts[1:]}
        assert not parts & FORMATS, by_path(path)
        assert not parts & (set(SHARED) - SHARED[folder] - {folder}), by_path(path)


@pytest.mark.parametrize("folder", sorted(TIERS))
def test_folders_of_tiers_import_down(folder):
    for path in (HOUSE / "matching" / folder).glob("*.py"):
        parts = {parts[1] for parts in imported_by(path) if parts[0] == "matching" and parts[1:]}
        assert not parts & (set(TIERS) - TIERS[folder] - {folder}), by_path(path)


def test_what_all_tiers_share_knows_no_folder_of_them():
    for path in (HOUSE / "matching").glob("*.py"):
        if path.stem != "__init__":
            parts = {parts[1] for parts in imported_by(path) if parts[0] == "matching" and parts[1:]}
            assert not parts & set(TIERS), by_path(path)


@every_module
def test_laws_are_raised_never_asserted_and_no_error_is_swallowed(path):
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
            swallowed = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            broad = ast.unparse(node.type) in ("Exception", "BaseException")
            assert not (swallowed and broad), f"line {node.lineno}"


FORBIDDEN_IMPORTS = {"pickle", "zipfile", "marshal", "shelve", "dill", "cloudpickle", "socket",
                     "urllib.request", "http", "requests", "mmap"}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}


@every_module
def test_nothing_runs_what_a_file_says(path):
    module = tree(path)
    found = set(imports(ast.walk(module)))
    found |= {name.split(".")[0] for name in found}
    assert not found & FORBIDDEN_IMPORTS
    calls = {
        node.func.id
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & FORBIDDEN_CALLS


@every_module
def test_heavy_packages_are_imported_where_they_are_used(path):
    module = tree(path)
    hidden = for_types_only(module)
    inside = {
        inner
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    outside = [node for node in ast.walk(module) if node not in inside and node not in hidden]
    assert not {name.split(".")[0] for name in imports(outside)} & HEAVY


@every_module
def test_only_the_command_line_prints_and_exits(path):
    if place(path)[0] in ("cli", "terminal", "__main__"):
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "sys.exit", "exit", "quit"), node.lineno


@every_module
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("name", ["sizeforensics", "sizeforensics.cli", "sizeforensics.errors", "sizeforensics.pytest_plugin"])
def test_importing_loads_nothing_heavy(name):
    code = f"import sys, {name}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(HOUSE.parent)!r}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not set(run.stdout.split()) & {"numpy", "xxhash", "jinja2", *HEAVY}
