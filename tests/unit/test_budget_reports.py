"""Verdicts in every form: the same facts, valid for their readers, inert whatever a name holds."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pytest
from markdown_it import MarkdownIt

from sizeforensics import Budget, Verdict, Waiver, api
from sizeforensics.escape import one_line
from sizeforensics.report import marked, verdicts
from sizeforensics.report.styled import View
from sizeforensics.report.verdicts import console, markdown, words
from sizeforensics.spans import DEBUG_INFO, METADATA, UNCLAIMED
from tests.builders import artifact, random
from tests.golden import samples
from tests.unit.test_report_json import SCHEMAS, documented

DAY = dt.date(2030, 6, 15)
W = random(0, 8, 16)
FORMS = ("json", "markdown", "junit", "github")
HOSTILE = (
    samples.HOSTILE, "]]>&<script>alert(1)</script>", "::error::pwned", "##[error]pwned", "%0A::set-output",
    "\x00\x1b[2J\x07\ufffe\ud800", "a|b`c``\n# title\n@someone #1 <!-- -->", "",
)  # fmt: skip


def judged(inventory, before=None, *, name="detector", baseline=None, **limits):
    against = None if before is None else api.compare(before, inventory)
    return api.judge(
        api.look_into(inventory), against, Budget(**limits), name=name, baseline=baseline, today=DAY
    )


def every_status(text="w"):
    """A verdict of each status, with a tensor, a path, a budget and a waiver of this name."""
    before = artifact({text: W}, path="old.onnx")
    inventory = artifact(
        {text: W, f"{text}.copy": W}, path=f"dist/{text}.onnx", others=[(DEBUG_INFO, 50, text), (METADATA, 60, text)]
    )
    waivers = [
        Waiver("causes.debug-info", f"because {text}", text or "w", DAY),
        Waiver("causes.metadata", "over", "bert", dt.date(2030, 1, 1)),
    ]
    return [
        judged(
            inventory, before, name=text, baseline="old.onnx", total={"warn": 700, "fail": 5_000}, growth="2 %",
            causes={"duplicate": 0, "debug-info": 0, "metadata": 9}, tensors={text or "none": 1, "no such": 1},
            dtypes=["float16"], waivers=waivers,
        ),
        judged(before, name="kept", total="1 kB"),
        judged(before, name="warned", total={"warn": 9}),
        judged(before, name="waived", total=9, waivers=[Waiver("max_bytes", "why", "who", DAY)]),
        Verdict("lost", f"{text}*.onnx", "fail", problem=f"no file matches {text}*.onnx"),
        Verdict("absent", "*.pt", "skipped", problem="no file matches *.pt"),
        Verdict("unread", f"{text}.pt", "error", problem=f"{one_line(text)}.pt: at 0x0: expected a model"),
    ]  # fmt: skip


def text_of(form, told):
    return "".join(verdicts.pieces(told, form))


# -- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", [*FORMS, "table"])
def test_no_form_carries_what_a_name_could_do(form, name):
    told = every_status(name)
    text = console.render(told, View()) if form == "table" else text_of(form, told)
    assert text.encode("utf-8")
    assert not set(text) & set("\x00\x07\x1b\x7f\u202e\u200b\r")
    assert text.endswith("\n")
    again = every_status(name)
    assert text == (console.render(again, View()) if form == "table" else text_of(form, again))


def test_the_headline_counts():
    assert words.headline(every_status()[1:2]) == "1 size budget kept"
    assert words.headline(every_status()[1:4]) == "3 size budgets kept, 1 with a warning"
    assert words.headline(every_status()[5:6]) == "0 size budgets kept, 1 skipped"
    assert words.headline(every_status()[5:]) == "1 of 2 size budgets not judged: unread"
    assert words.headline(every_status()) == "2 of 7 size budgets broken: w and lost; 1 not judged: unread"


# -- console -----------------------------------------------------------------------------------


def test_one_line_for_each_budget_then_the_diagnosis():
    told = every_status()
    lines = console.render(told, View()).splitlines()
    assert lines[0].split() == ["verdict", "budget", "file", "limit", "value", "allowed", "top", "causes"]
    assert [line.split()[:2] for line in lines[1:8]] == [
        ["FAIL", "w"], ["OK", "kept"], ["WARN", "warned"], ["WAIVED", "waived"], ["FAIL", "lost"],
        ["SKIPPED", "absent"], ["ERROR", "unread"],
    ]  # fmt: skip
    # The growth is what decides: the total only warns.
    size = told[0].nbytes
    assert "dist/w.onnx" in lines[1]
    assert f" growth {size - 528:,} B 10 B (2 %) duplicate +512 B (w.copy); " in " ".join(lines[1].split())
    assert "duplicate +512 B (w.copy); metadata +60 B (w); debug-info +50 B (w)" in lines[1]
    # A verdict without a measurement says why in its line and needs no more.
    assert lines[5].split(maxsplit=3) == ["FAIL", "lost", "w*.onnx", "no file matches w*.onnx"]
    assert lines[7].split(maxsplit=3) == ["ERROR", "unread", "w.pt", "w.pt: at 0x0: expected a model"]
    assert lines[9] == f"✗ {words.headline(told)}"
    told_of = "\n".join(lines[10:])
    assert f"w (dist/w.onnx): 6 of 9 limits broken, 1 with a warning, 1 waived\n  FAIL growth: {size - 528} B, limit 10 B (2 %), excess {size - 538} B" in told_of
    assert "    Fix: store each tensor once (saves up to 512 B), " in told_of
    assert "  FAIL duplicate: 512 B, limit 0 B, excess 512 B\n    duplicate 512 B (w.copy)\n    Fix: store each tensor once (saves up to 512 B): down to 0 B\n" in told_of
    assert "The waiver by bert expired on 2030-01-01: over" in told_of
    assert "Waived until 2030-06-15 by w: because w" in told_of
    assert "  FAIL tensor no such: no tensor matches 'no such'" in told_of
    assert "Fix: store w in at most 1 bit an element instead of float32, or split it" not in told_of
    assert "Fix: make w smaller, or split it" in told_of
    assert "Fix: store 1 float32 tensor as float16 (saves up to 512 B)" not in told_of
    assert "Fix: store 2 float32 tensors as float16 (saves up to 1,024 B): down to 0 B" in told_of
    assert "  WARN total: " in told_of
    assert "lost" not in told_of
    assert "kept" not in told_of
    assert "absent" not in told_of


def test_a_limit_without_a_cure_says_what_is_left():
    (line,) = [text for text in words.diagnosis(judged(artifact({"w": W, "c": W}), total=100)) if "Fix" in text]
    assert line == "    Fix: store each tensor once (saves up to 512 B): still 428 B too much"
    (line,) = [text for text in words.diagnosis(judged(artifact({"w": W}), total=100)) if "Fix" in text]
    assert line == "    Fix: nothing in the file is waste: make the model smaller, or raise the limit"
    (line,) = [text for text in words.diagnosis(judged(artifact({"w": W}), tensors={"w": 300})) if "Fix" in text]
    assert line == "    Fix: store w in at most 18 bits an element instead of float32, or split it"


def fix_of(inventory, before=None, **limits):
    (line,) = [text for text in words.diagnosis(judged(inventory, before, **limits)) if "Fix" in text]
    return line.strip()


def test_a_fix_is_something_that_can_be_done():
    mixed = artifact({"w": W, "index": np.arange(5), "mask": np.ones(3, bool)})
    assert fix_of(mixed, dtypes=["float16"]) == (
        "Fix: store 1 float32 tensor as float16 (saves up to 512 B), allow int64 or do without 1 int64 tensor (saves up "
        "to 40 B) and allow bool or do without 1 bool tensor (saves up to 3 B): down to 0 B"
    )
    assert fix_of(artifact({"w": W}, others=[(UNCLAIMED, 9, "gap")]), unexplained=0) == (
        "Fix: write the file anew without what nothing refers to (saves up to 9 B): down to 0 B"
    )


def test_a_line_names_a_cause_once():
    inventory = artifact({"w": W}, others=[(METADATA, size, f"k{size}") for size in (3, 9, 5, 7)])
    told = judged(inventory, causes={"metadata": 0})
    assert words.line(told).causes == ("metadata 9 B (k9), 7 B (k7), 8 B (k5 and 1 more)",)
    assert "| `metadata` 9 B (`k9`), 7 B (`k7`), 8 B (`k5 and 1 more`) |" in text_of("markdown", [told])


# -- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w", *HOSTILE])
def test_json_follows_its_schema_and_documents_every_key(name):
    document = json.loads(text_of("json", every_status(name)))
    jsonschema.validate(document, SCHEMAS["check-1"], jsonschema.Draft202012Validator)
    documented(document, SCHEMAS["check-1"])


def test_json_has_the_facts():
    document = json.loads(text_of("json", every_status()))
    assert document["status"] == "error"
    assert [verdict["status"] for verdict in document["budgets"]] == [
        "fail", "ok", "warn", "waived", "fail", "skipped", "error",
    ]  # fmt: skip
    first = document["budgets"][0]
    assert (first["baseline"], first["baseline_bytes"]) == ("old.onnx", 528)
    for limit in first["limits"]:
        assert limit["excess_bytes"] == max(limit["value_bytes"] - limit["limit_bytes"], 0)
        if limit["status"] == "ok":
            assert limit["fix"] == ""
    by_key = {limit["key"]: limit for limit in first["limits"]}
    assert by_key["max_growth"]["limit"] == "2 %"
    assert by_key["causes.metadata"]["waiver"]["holds"] is False
    assert by_key["causes.debug-info"]["waiver"]["holds"] is True
    assert by_key["causes.duplicate"]["causes"] == [
        {"cause": "duplicate", "label": "", "bytes": 512, "subject": "w.copy", "count": 1, "gained": False}
    ]


# -- JUnit -------------------------------------------------------------------------------------


# Element to its children, the attributes it must have, and those it may have: junit-10.xsd of
# jenkinsci/xunit-plugin, which Jenkins checks a report against.
JENKINS = {
    "testsuites": ({"testsuite"}, set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": (
        {"testsuite", "properties", "testcase", "system-out", "system-err"}, {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
    ),
    "testcase": (
        {"skipped", "error", "failure", "system-out", "system-err"}, {"name"}, {"time", "classname", "group"},
    ),
    "failure": (set(), set(), {"type", "message"}),
    "error": (set(), set(), {"type", "message"}),
    "skipped": (set(), set(), {"type", "message"}),
    "system-out": (set(), set(), set()),
}  # fmt: skip


def follows_the_schema_of_jenkins(root):
    for element in root.iter():
        children, required, optional = JENKINS[element.tag]
        assert {child.tag for child in element} <= children
        assert required <= set(element.attrib) <= required | optional
        assert re.fullmatch(r"[0-9]{1,3}(\.[0-9]*)?", element.get("time", "0"))


@pytest.mark.parametrize("name", ["w", *HOSTILE])
def test_junit_is_xml_whose_counts_are_right(name):
    root = ET.fromstring(text_of("junit", every_status(name)).encode("utf-8"))
    assert root.tag == "testsuites"
    follows_the_schema_of_jenkins(root)
    for level in (root, *root):
        assert int(level.get("tests")) == len(list(level.iter("testcase")))
        assert int(level.get("failures")) == len(list(level.iter("failure")))
        assert int(level.get("skipped", "3")) == len(list(level.iter("skipped")))
        assert int(level.get("errors")) == len(list(level.iter("error")))
    assert (root.get("failures"), root.get("errors")) == ("7", "1")


def test_junit_says_what_is_to_blame():
    root = ET.fromstring(text_of("junit", every_status()).encode("utf-8"))
    (case,) = root.findall("testsuite[1]/testcase[@name='duplicate']")
    assert case.get("classname") == "w"
    failure = case.find("failure")
    assert failure.get("type") == "causes.duplicate"
    assert failure.get("message") == "FAIL duplicate: 512 B, limit 0 B, excess 512 B"
    assert "duplicate 512 B (w.copy)" in failure.text
    assert "Fix: store each tensor once" in failure.text
    assert root.find("testsuite[@name='kept (old.onnx)']/testcase/failure") is None
    assert root.find("testsuite[@name='lost (w*.onnx)']/testcase/failure").get("message") == "no file matches w*.onnx"
    assert root.find("testsuite[@name='unread (w.pt)']/testcase/error").attrib == {
        "message": "w.pt: at 0x0: expected a model", "type": "error",
    }  # fmt: skip
    assert "WARN total" in root.find("testsuite[@name='warned (old.onnx)']//system-out").text


# -- GitHub ------------------------------------------------------------------------------------

_COMMAND = re.compile(r"::(error|warning|notice) ((?:[a-z]+=[^,:\n]*,?)*)::(.*)")


def parsed(text):
    """The commands as the runner reads them: properties, then the message, each unescaped."""
    for line in text.splitlines():
        command, properties, message = _COMMAND.fullmatch(line).groups()
        pairs = dict(pair.split("=", 1) for pair in properties.split(",") if pair)

        def unescaped(value):
            for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
                value = value.replace(code, character)
            return value

        yield command, {key: unescaped(value) for key, value in pairs.items()}, unescaped(message)


@pytest.mark.parametrize("name", ["w", *HOSTILE])
def test_github_gets_commands_of_ours_only(name):
    commands = list(parsed(text_of("github", every_status(name))))
    assert [command for command, *_ in commands] == [
        "error", "error", "error", "error", "error", "error", "warning", "notice", "warning", "notice",
        "error", "error", "notice",
    ]  # fmt: skip


def test_github_marks_the_file():
    command, properties, message = next(parsed(text_of("github", every_status())))
    assert (command, properties) == ("error", {"file": "dist/w.onnx", "title": "size budget w: growth"})
    assert message.startswith("FAIL growth: ")
    assert "\nduplicate +512 B (w.copy)\n" in message


def test_github_escapes_what_its_runner_would_read():
    strange = "100%,a:b\nc"
    told = [Verdict(strange, strange, "fail", problem=f"no file matches {strange}")]
    line = text_of("github", told).splitlines()[0]
    assert line == (
        "::error file=100%25%2Ca%3Ab%0Ac,title=size budget 100%25%2Ca%3Ab\\nc::no file matches 100%25,a:b%0Ac"
    )


# -- Markdown ----------------------------------------------------------------------------------


def test_markdown_has_the_marker_the_table_and_the_fix():
    text = text_of("markdown", every_status())
    assert text.startswith(f"{markdown.MARKER}\n\n## ⛔ ")
    assert text_of("markdown", every_status()[:6]).startswith(f"{markdown.MARKER}\n\n## ❌ ")
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    rows = [re.findall("<td[^>]*>(.*?)</td>", row) for row in page.split("<tr>")[2:]]
    assert [row[0] for row in rows] == ["❌ fail", "✅ ok", "⚠️ warn", "⏸️ waived", "❌ fail", "⏭️ skipped", "⛔ error"]
    assert all(len(row) == 7 for row in rows)
    assert "<strong>Fix:</strong> store each tensor once" in page
    assert "Waived until 2030-06-15" in page


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_keeps_names_in_their_spans(name):
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text_of("markdown", every_status(name)))
    bare = re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL).removeprefix(markdown.MARKER)
    assert "script" not in bare
    assert "pwned" not in html.unescape(bare)
    assert "@someone" not in bare
    assert "<!--" not in bare


def test_markdown_fits_a_comment():
    told = [
        judged(artifact({f"{number}{'w' * 200}": W, "c": W}), name=f"{number}{'b' * 100}", total=1, causes={"duplicate": 0})
        for number in range(150)
    ]
    text = text_of("markdown", told)
    assert len(text) <= marked.MAX_CHARACTERS
    assert "left out" in text
