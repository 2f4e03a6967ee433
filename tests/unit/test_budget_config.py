"""The configuration: two files, no key ignored, globs, baselines, and which budgets a word means."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from sizeforensics.budget import Verdict, Waiver
from sizeforensics.budget.config import find, load
from sizeforensics.budget.selection import select
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
            BUDGET + '[[budgets.a.waivers]]\nlimit = "total"\nreason = "x"\nowner = "y"\nexpires = 2030-01-01\n',
            "waivers: no limit 'total' to waive",
        ),
        ("[budgets.a\n", "expected TOML"),
        ("a = " + "[" * 10_000, "expected TOML"),
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
    assert entry('[budgets.a]\npath = "dist/*.onnx"').paths() == ["dist/a.onnx", "dist/b.onnx"]
    deep = entry('[budgets.a]\npath = "dist/**/*.onnx"').paths()
    assert deep == ["dist/a.onnx", "dist/b.onnx", "dist/deep/er/c.onnx"]


def test_a_name_with_brackets_is_a_name_when_it_exists(folder):
    touch("a[1].onnx", "a1.onnx")
    assert entry('[budgets.a]\npath = "a[1].onnx"').paths() == ["a[1].onnx"]
    Path("a[1].onnx").unlink()
    assert entry('[budgets.a]\npath = "a[1].onnx"').paths() == ["a1.onnx"]


def test_a_glob_that_matches_nothing_fails_unless_optional(folder):
    text = '[budgets.a]\npath = "*.onnx"\n'
    assert select([entry(text)]) == [Verdict("a", "*.onnx", "fail", problem="no file matches *.onnx")]
    assert not select([entry(text)])[0].ok
    (skipped,) = select([entry(text + "optional = true\n")])
    assert (skipped.status, skipped.ok) == ("skipped", True)
    (missing,) = select([entry('[budgets.a]\npath = "a.onnx"\noptional = true\n')])
    assert missing.status == "skipped"
    # A path that is no pattern is read, and the reader says that it is not there.
    assert select([entry('[budgets.a]\npath = "a.onnx"\n')])[0].path == "a.onnx"


def test_paths_are_relative_to_the_configuration(folder):
    touch("sub/dist/a.onnx")
    write('[budgets.a]\npath = "dist/*.onnx"\nbaseline = "sizes/{name}.json"\n', "sub/sizeforensics.toml")
    (task,) = select(load(Path("sub/sizeforensics.toml")))
    assert (task.path, task.baseline) == ("sub/dist/a.onnx", "sub/sizes/a.onnx.json")


def test_two_files_do_not_share_a_baseline(folder):
    touch("a.onnx", "b.onnx")
    with pytest.raises(InputError, match=r"base\.json: a\.onnx and b\.onnx would share this baseline"):
        select([entry('[budgets.a]\npath = "*.onnx"\nbaseline = "base.json"')])
    several = [entry('[budgets.a]\npath = "*.onnx"')]
    with pytest.raises(InputError, match="would share"):
        select(several, baseline="given.onnx")
    assert [task.baseline for task in select(several, ["a.onnx"], "given.onnx")] == ["given.onnx"]


def test_words_are_names_or_files(folder):
    touch("dist/a.onnx", "dist/b.onnx", "c.pt")
    entries = load(write('[budgets.all]\npath = "dist/*.onnx"\n[budgets.c]\npath = "c.pt"\n'))

    def chosen(*words):
        return [(task.name, task.path) for task in select(entries, words)]

    assert chosen() == [("all", "dist/a.onnx"), ("all", "dist/b.onnx"), ("c", "c.pt")]
    assert chosen("all") == [("all", "dist/a.onnx"), ("all", "dist/b.onnx")]
    assert chosen("./dist/../dist/b.onnx") == [("all", "dist/b.onnx")]
    assert chosen("c", "dist/a.onnx", "c.pt") == [("all", "dist/a.onnx"), ("c", "c.pt")]
    with pytest.raises(InputError, match=r"no budget is called or covers 'al'; did you mean 'all'\?"):
        chosen("al")
