"""Every hostile file of the threat model through the real command line, with nothing to break out to."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.hostile import guard, other_cases, pickle_cases, zip_cases
from tests.hostile.case import ACCEPT, FLAG, REFUSE
from tests.hostile.craft import checkpoint, overlapping
from tests.hostile.refusals import REFUSALS

ROOT = Path(__file__).resolve().parents[2]
TABLES = {"zip": zip_cases.CASES, "pickle": pickle_cases.CASES, "other": other_cases.CASES}
CASES = {f"{table}: {case.name}": case for table, cases in TABLES.items() for case in cases}
ROWS = {
    "zip": {
        "deflate bomb", "pickle record", "overlap", "twice", "headers disagree", "CRC", "ends", "numbers",
        "hidden", "names", "size", "features", "descriptors",
    },
    "pickle": {
        "callables", "laughs", "streams", "memo", "numbers", "tensors", "keys", "names", "size", "legacy", "bare",
    },
    "other": {
        "external location", "external numbers", "external place", "dimensions", "subgraphs", "wire",
        "names", "nodes", "something else", "safetensors", "TorchScript", "input", "truncated", "tar", "index",
    },
}  # fmt: skip
"""The rows of the threat model; a case begins with the one it belongs to, or with ``found``."""
HARMLESS = {"code", "details", "h3", "pre", "summary", "ul", "li", "p"}
"""Elements that our page has for some files only."""
OURS = ("model", "data", "sub", "a", ".", "..")


class Guard:
    """The server that runs a command line in a process without means."""

    def __init__(self, folder: Path) -> None:
        example = folder / "example.pt"
        example.write_bytes(checkpoint())
        self.server = subprocess.Popen(
            [sys.executable, str(Path(guard.__file__)), str(example)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8",
                 "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        self.benign = (folder / "warm.html").read_text() if self.ready(folder) else ""

    def ready(self, folder: Path) -> bool:
        self.run(folder, ["inspect", "example.pt"])
        return True

    def run(self, folder: Path, arguments: list[str], meanwhile: list[object] | None = None) -> Ran:
        """``meanwhile`` is a path, what happens to it, and after how many reads."""
        files = {name: str(folder.parent / f"{name}.log") for name in ("stdout", "stderr", "events")}
        assert self.server.stdin
        assert self.server.stdout
        request = {"folder": str(folder), "arguments": arguments} | files
        if meanwhile is not None:
            request["meanwhile"] = meanwhile
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return Ran(json.loads(self.server.stdout.readline()), files)

    def close(self) -> None:
        self.server.communicate()


class Ran:
    """How one command line ended, and what it printed and did."""

    def __init__(self, reply: dict, files: dict[str, str]) -> None:
        self.code, self.peak, self.events = reply["code"], reply["peak"], reply["events"]
        self.stdout = Path(files["stdout"]).read_bytes().decode("utf-8")
        self.stderr = Path(files["stderr"]).read_bytes().decode("utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Guard(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


def built(case, tmp_path):
    folder = tmp_path / "held"
    folder.mkdir()
    if case.files:
        return folder, case.build(folder)
    (folder / "model").write_bytes(case.build())
    return folder, "model"


def inert(text, allowed="\n"):
    acting = {
        sign for sign in set(text) - set(allowed)
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    }  # fmt: skip
    assert acting == set()


class Tags(HTMLParser):
    """The elements of a page with the names of their attributes, and its scripts."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.scripts, self.links = set(), 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen |= {(tag, name) for name, _ in attrs} | {(tag, None)}
        self.scripts += tag == "script"
        self.links += [value for name, value in attrs if name in ("href", "src", "action", "srcdoc")]


def page_is_inert(text, benign):
    inert(text)
    page, plain = Tags(text), Tags(benign)
    assert page.scripts == plain.scripts
    assert {tag for tag, _ in page.seen} - {tag for tag, _ in plain.seen} <= HARMLESS
    assert not [name for _, name in page.seen if name and name.startswith("on")]
    assert all(link.startswith("#") for link in page.links)
    assert text.index("Content-Security-Policy") < text.index("<title")


def comment_is_inert(text):
    inert(text)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token in tokens:
        for part in [token, *(token.children or [])]:
            assert part.type not in ("link_open", "image")
            if part.type in ("html_block", "html_inline"):
                assert re.fullmatch(r"(\s*(</?(details|summary)>|<!--[^>]*-->|<summary>[^<>]*</summary>)\s*)+", part.content)


def opened_only(ran, folder, path):
    """Nothing was opened but the model, what it names, and what the program itself consists of."""
    home = (sys.prefix, sys.base_prefix, str(ROOT / "sizeforensics"), str(folder.parent / "reports"))
    for event, arguments in ran.events:
        if event == "import":
            assert not arguments[0].startswith("canary")
        elif event == "open":
            where = arguments[0]
            # What tempfile made is opened again by its number.
            known = where.isdigit() or where.rstrip("0123456789") in OURS or where.startswith(home)
            known = known or where in (path, str(folder), "/dev/null")
            assert known, (event, arguments)
        elif event in ("os.rename", "os.remove"):
            assert str(folder.parent / "reports") in arguments[0]
        else:
            assert event in ("exec", "marshal.loads"), (event, arguments)
            if event == "exec":
                ours = "|".join(map(re.escape, home))
                assert re.match(rf'<code object .* file "({ours}|<)', arguments[0])


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_gets_what_it_must(name, server, tmp_path):
    case = CASES[name]
    folder, path = built(case, tmp_path)
    reports = tmp_path / "reports"
    reports.mkdir()
    before = sorted(item.name for item in folder.iterdir())
    told = server.run(folder, ["inspect", path, "--format", "json",
                               "-o", str(reports / "x.html"), "-o", str(reports / "x.md")])  # fmt: skip
    runs = [told]
    if case.outcome == REFUSE:
        refused(name, told, reports)
    else:
        assert told.code == 0, told.stderr
        assert told.stderr == ""
        document = json.loads(told.stdout)
        inert(told.stdout)
        warnings = document["warnings"]
        if case.outcome == ACCEPT:
            assert warnings == []
        else:
            assert [text for text in warnings if case.says in text], warnings
        page_is_inert((reports / "x.html").read_text(), server.benign)
        comment_is_inert((reports / "x.md").read_text())
        mapped = server.run(folder, ["map", path, "--format", "json"])
        tiles(mapped, folder, document)
        shown = server.run(folder, ["inspect", path, "-v"])
        assert shown.code == 0
        inert(shown.stdout)
        inert(shown.stderr)
        assert len(shown.stderr.splitlines()) == min(len(warnings), 21)
        runs += [mapped, shown]
    for ran in runs:
        assert ran.peak < guard.MEMORY
        opened_only(ran, folder, path)
    assert sorted(item.name for item in folder.iterdir()) == before, "something was executed"


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shape", [(50_000,), (500, 100), (500, 10, 10)], ids=str)
@pytest.mark.parametrize("verb", ["diff", "snapshot"])
def test_views_that_overlap_cost_what_the_file_is_worth(verb, shape, sparse, server, tmp_path):
    """Each view has 200 kB of elements and four bytes of its own: ``guard.SECONDS`` are enough."""
    folder = tmp_path / "held"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        (folder / name).write_bytes(overlapping(shape, 1_000, seed, sparse=sparse))
    (folder / "model").write_bytes(checkpoint())
    reports = tmp_path / "reports"
    reports.mkdir()
    runs = {
        "diff": [["diff", "a", "model"], ["diff", "model", "a"], ["diff", "a", "b"]],
        "snapshot": [["snapshot", "a", "-o", str(reports / "a.json.gz")]],
    }
    for arguments in runs[verb]:
        ran = server.run(folder, arguments)
        assert (ran.code, ran.stderr) == (0, "")
        assert ran.peak < guard.MEMORY


def refused(name, told, reports):
    assert told.code == 2, (told.code, told.stdout[:500])
    assert told.stdout == ""
    (line,) = told.stderr.splitlines()
    assert line.isprintable()
    assert line.startswith("error: ")
    assert ": expected " in line
    assert ", got " in line
    assert line == f"error: {REFUSALS[name]}"
    assert list(reports.iterdir()) == []


def tiles(mapped, folder, document):
    assert mapped.code == 0, mapped.stderr
    files = json.loads(mapped.stdout)["files"]
    assert [file["bytes"] for file in files] == [file["bytes"] for file in document["files"]]
    for file in files:
        assert file["bytes"] == (folder / file["path"]).stat().st_size
        ends = [0, *(end for _, end, *_ in file["spans"])]
        assert [start for start, *_ in file["spans"]] == ends[:-1]
        assert ends[-1] == file["bytes"]


def test_every_row_has_cases():
    for table, cases in TABLES.items():
        assert {case.name.partition(":")[0] for case in cases} - {"found"} == ROWS[table]
        assert all(": " in case.name and case.outcome in (ACCEPT, FLAG, REFUSE) for case in cases)
    assert len(CASES) == sum(map(len, TABLES.values()))
