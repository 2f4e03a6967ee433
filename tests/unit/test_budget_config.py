"""The configuration: two files, no key ignored, globs, baselines, and which budgets a word means."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from sizeforensics.budget import Verdict, Waiver
from sizeforensics.budget.config import find, load
from sizeforensics.budget.selection import Task, select
from sizeforensics.errors import InputError

BUDGET = '[budgets.a]\npath = "a.onnx"\nmax_bytes = 1\n'
SHARED = "[tool.sizeforensics" + "{}]\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text, name="sizeforensics.toml"):
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def entry(text):
    (only,) = load(write(text))
    return only


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


# -- files -------------------------------------------------------------------------------------


def test_both_files_say_the_same(folder):
    own = load(write(BUDGET))
    shared = load(write(BUDGET.replace("[budgets", "[tool.sizeforensics.budgets"), "pyproject.toml"))
    assert own == shared
    assert own[0].budget.total == 1


def test_the_shape_that_the_documentation_shows(folder):
    text = """
        [tool.sizeforensics.budgets.detector]
        path = "dist/yolov5s.onnx"
        max_bytes = "15 MB"
        max_growth = "2%"
        baseline = "sizes/yolov5s.json"
        [tool.sizeforensics.budgets.detector.causes]
        duplicate = 0
        debug-info = "0.5%"
        [[tool.sizeforensics.budgets.detector.waivers]]
        limit = "causes.debug-info"
        reason = "the release candidate is debugged on the device"
        owner = "anna"
        expires = 2030-12-31
    """
    (detector,) = load(write(text, "pyproject.toml"))
    assert [rule.key for rule in detector.budget.rules] == [
        "max_bytes", "max_growth", "causes.duplicate", "causes.debug-info", "unexplained",
    ]  # fmt: skip
    assert detector.baseline_of("dist/yolov5s.onnx") == "sizes/yolov5s.json"
    assert detector.budget.waivers == (
        Waiver("causes.debug-info", "the release candidate is debugged on the device", "anna",
               dt.date(2030, 12, 31)),
    )  # fmt: skip


def test_the_folder_s_own_file_is_found(folder):
    write("[project]\nname = 'x'\n", "pyproject.toml")
    with pytest.raises(InputError, match=r"expected sizeforensics\.toml, or .*`sizeforensics init`"):
        find()
    write("[tool.sizeforensics]\n", "pyproject.toml")
    assert find() == Path("pyproject.toml")
    write(BUDGET)
    with pytest.raises(InputError, match="both hold budgets"):
        find()
    Path("pyproject.toml").unlink()
    assert find() == Path("sizeforensics.toml")


def test_a_misspelt_table_of_a_shared_file_is_pointed_out(folder):
    write("[tool.sizeforensic.budgets.a]\n[tool.setuptools]\n", "pyproject.toml")
    with pytest.raises(InputError, match=r"pyproject\.toml \(there is \[tool\.sizeforensic\]\); `sizeforensics init`"):
        find()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BUDGET + "max_byts = 1\n", "budgets.a: unknown key 'max_byts'; did you mean 'max_bytes'?"),
        (BUDGET.replace("[budgets", "[bugdets"), "unknown key 'bugdets'; did you mean 'budgets'?"),
        ("budgets = 1\n", "expected at least one table [budgets.NAME]"),
        ("[budgets]\n", "expected at least one table [budgets.NAME]"),
        ("[budgets]\na = 1\n", "budgets.a: expected a table, got 1"),
        ("[budgets.a]\nmax_bytes = 1\n", "budgets.a: path: expected a text, got None"),
        ('[budgets.a]\npath = ""\n', "budgets.a: path: expected a text, got ''"),
        (BUDGET + "baseline = 1\n", "budgets.a: baseline: expected a text, got 1"),
        (BUDGET + 'optional = "yes"\n', "budgets.a: optional: expected true or false, got 'yes'"),
        (BUDGET + 'max_growth = "a lot"\n', "budgets.a: max_growth: expected a size"),
        (BUDGET + "[budgets.a.causes]\nduplicates = 0\n", "did you mean 'duplicate'?"),
        (BUDGET + "waivers = 1\n", "budgets.a: waivers: expected tables"),
        (BUDGET + "waivers = [1]\n", "budgets.a: waivers: expected a table, got 1"),
        (BUDGET + '[[budgets.a.waivers]]\nlimit = "max_bytes"\nresaon = "x"\n', "did you mean 'reason'?"),
        (BUDGET + '[[budgets.a.waivers]]\nlimit = "max_bytes"\nreason = "x"\n', "owner: expected a text"),
        (
            BUDGET + '[[budgets.a.waivers]]\nlimit = "max_bytes"\nreason = "x"\nowner = "y"\n',
            "expires: expected a date such as 2030-12-31, got None",
        ),
        (
            BUDGET + '[[budgets.a.waivers]]\nlimit = "max_bytes"\nreason = "x"\nowner = "y"\nexpires = "soon"\n',
            "expires: expected a date such as 2030-12-31, got 'soon'",
        ),
        (
            BUDGET + '[[budgets.a.waivers]]\nlimit = "totally"\nreason = "x"\nowner = "y"\nexpires = 2030-01-01\n',
            "waivers: no limit 'totally' to waive; did you mean 'total'?",
        ),
        (
            BUDGET + '[[budgets.a.waivers]]\nlimit = "total"\nreason = "x"\nowner = " "\nexpires = 2030-01-01\n',
            "budgets.a: waivers: owner: expected a text, got ' '",
        ),
        ("[budgets.a\n", "expected TOML"),
        ("a = " + "[" * 10_000, "expected TOML"),
        ("a = " + "9" * 5_000, "expected TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(folder, text, said):
    with pytest.raises(InputError) as caught:
        load(write(text))
    assert str(caught.value).startswith("sizeforensics.toml: ")
    assert said in str(caught.value)


def test_a_file_that_is_no_text(folder):
    Path("sizeforensics.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(InputError, match=r"at 0x5: expected UTF-8"):
        load(Path("sizeforensics.toml"))
    with pytest.raises(InputError, match="cannot read"):
        load(Path("nowhere.toml"))


# -- globs and baselines -----------------------------------------------------------------------


def test_globs_find_files_in_order(folder):
    touch("dist/b.onnx", "dist/a.onnx", "dist/deep/er/c.onnx", "dist/a.onnx.data", "dist/d.onnx/keep")
    assert entry('[budgets.a]\npath = "dist/*.onnx"\nunexplained = 0').paths() == ["dist/a.onnx", "dist/b.onnx"]
    deep = entry('[budgets.a]\npath = "dist/**/*.onnx"\nunexplained = 0').paths()
    assert deep == ["dist/a.onnx", "dist/b.onnx", "dist/deep/er/c.onnx"]


def test_a_name_with_brackets_is_a_name_when_it_exists(folder):
    touch("a[1].onnx", "a1.onnx")
    assert entry('[budgets.a]\npath = "a[1].onnx"\nunexplained = 0').paths() == ["a[1].onnx"]
    Path("a[1].onnx").unlink()
    assert entry('[budgets.a]\npath = "a[1].onnx"\nunexplained = 0').paths() == ["a1.onnx"]


@pytest.mark.parametrize("path", ["*.onnx", "a.onnx", "nowhere/a.onnx"])
def test_a_path_or_glob_without_a_file_fails_unless_optional(folder, path):
    text = f'[budgets.a]\npath = "{path}"\nmax_bytes = 1\n'
    assert select([entry(text)]) == [Verdict("a", path, "fail", problem=f"no file matches {path}")]
    assert not select([entry(text)])[0].ok
    (skipped,) = select([entry(text + "optional = true\n")])
    assert (skipped.status, skipped.ok) == ("skipped", True)


def test_what_is_there_and_no_file_is_for_the_reader_to_refuse(folder):
    Path("a.onnx").mkdir()
    Path("b.onnx").symlink_to("nowhere")
    for name in ("a.onnx", "b.onnx"):
        (task,) = select([entry(f'[budgets.a]\npath = "{name}"\nmax_bytes = 1\n')])
        assert isinstance(task, Task)


@pytest.mark.parametrize("limits", ["", "baseline = 'b.json'\n", "causes = {}\n", "forbid = []\n", "tensors = {}\n"])
def test_a_budget_without_a_limit_is_an_error(folder, limits):
    with pytest.raises(InputError, match=r"^sizeforensics\.toml: budgets\.a: expected a limit, got none"):
        load(write(f'[budgets.a]\npath = "a.onnx"\n{limits}'))
    assert entry(f'[budgets.a]\npath = "a.onnx"\n{limits}unexplained = 0\n').budget.rules


@pytest.mark.parametrize(
    ("limit", "key"),
    [('max_growth = "2 %"', "max_growth"), ("causes = { unmatched = 0 }", "causes.unmatched"),
     ('forbid = ["folded"]', "forbid.folded")],
)  # fmt: skip
def test_a_limit_that_lacks_its_baseline_is_named(folder, limit, key):
    text = f'[budgets.fine]\npath = "b.onnx"\nmax_bytes = 1\n[budgets.a]\npath = "a.onnx"\n{limit}\n'
    entries = load(write(text))
    with pytest.raises(InputError) as caught:
        select(entries)
    assert str(caught.value) == (
        f"sizeforensics.toml: budgets.a: {key}: expected a baseline to compare with: the key baseline, "
        "or --baseline FILE"
    )
    assert select(entries, baseline="old.onnx")
    assert select(entries, ["fine"])


def test_paths_are_relative_to_the_configuration(folder):
    touch("sub/dist/a.onnx")
    write('[budgets.a]\npath = "dist/*.onnx"\nbaseline = "sizes/{name}.json"\nmax_growth = 0\n', "sub/sizeforensics.toml")
    (task,) = select(load(Path("sub/sizeforensics.toml")))
    assert (task.path, task.baseline) == ("sub/dist/a.onnx", "sub/sizes/a.onnx.json")
    Path("sub/dist/a.onnx").unlink()
    (missing,) = select(load(Path("sub/sizeforensics.toml")), ["sub/dist/*.onnx"])
    assert (missing.path, missing.problem) == ("sub/dist/*.onnx", "no file matches sub/dist/*.onnx")


def test_two_files_do_not_share_a_baseline(folder):
    touch("a.onnx", "b.onnx")
    with pytest.raises(InputError, match=r"^sizeforensics\.toml: budgets\.a: base\.json: a\.onnx and b\.onnx would share this baseline"):
        select([entry('[budgets.a]\npath = "*.onnx"\nmax_growth = 0\nbaseline = "base.json"')])
    several = [entry('[budgets.a]\npath = "*.onnx"\nmax_growth = 0')]
    with pytest.raises(InputError, match=r"^--baseline: given\.onnx: .* would share"):
        select(several, baseline="given.onnx")
    assert [task.baseline for task in select(several, ["a.onnx"], "given.onnx")] == ["given.onnx"]


def test_words_are_names_or_files(folder):
    touch("dist/a.onnx", "dist/b.onnx", "c.pt")
    entries = load(write('[budgets.all]\npath = "dist/*.onnx"\nmax_bytes = 1\n[budgets.c]\npath = "c.pt"\nmax_bytes = 1\n'))

    def chosen(*words):
        return [(task.name, task.path) for task in select(entries, words)]

    assert chosen() == [("all", "dist/a.onnx"), ("all", "dist/b.onnx"), ("c", "c.pt")]
    assert chosen("all") == [("all", "dist/a.onnx"), ("all", "dist/b.onnx")]
    assert chosen("./dist/../dist/b.onnx") == [("all", "dist/b.onnx")]
    assert chosen("c", "dist/a.onnx", "c.pt") == [("all", "dist/a.onnx"), ("c", "c.pt")]
    with pytest.raises(InputError, match=r"no budget is called or covers 'al'; did you mean 'all'\?"):
        chosen("al")
