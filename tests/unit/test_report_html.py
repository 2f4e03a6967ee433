"""The HTML report without a browser: bytes, sizes, policy, escaping, sums, what must not be in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import re
from html.parser import HTMLParser

import pytest

from sizeforensics import api, cli
from sizeforensics.errors import InputError
from sizeforensics.ledger import Place, Row
from sizeforensics.report import checksums, html, html_data, save, waterfall, words
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.rows import FileRow
from tests.browser import reports
from tests.golden import samples
from tests.golden.cases import MODELS

SAMPLES = {
    "yolo": lambda: diff_report(*samples.yolo()),
    "every cause": lambda: diff_report(*samples.every_cause()),
    "inspected": lambda: inspect_report(*samples.inspected()),
    "hostile": reports.hostile,
    "hostile contents": reports.hostile_contents,
    "onnx": lambda: reports.real("yolov5-mini.pt", "yolov5-mini.onnx"),
    "external": lambda: reports.real("yolov5-micro.pt", "yolov5-micro-dynamo.onnx"),
    "train": lambda: reports.real("yolov5-micro-train.pt"),
    "same": lambda: reports.real("tied.pt", "tied.pt"),
    "one": reports.one_tensor,
    "nothing": reports.nothing,
    "slight": reports.slight,
}
every_sample = pytest.mark.parametrize("name", SAMPLES)


def page(report):
    return "".join(html.render(report))


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.texts, self.attributes = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.attributes += attrs
        if tag not in ("meta", "input", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def data_of(text):
    packed = re.search(r'id="data">([A-Za-z0-9+/=]*)</script>', text).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def names_of(column):
    """As the script does it: in UTF-16 units."""
    names, previous = [], b""
    for keep, rest in zip(column["keep"], column["rest"].split("\n"), strict=False):
        previous = previous[: 2 * keep] + rest.encode("utf-16-le")
        names.append(previous.decode("utf-16-le"))
    return names


@every_sample
def test_the_same_report_is_the_same_bytes(name):
    assert page(SAMPLES[name]()) == page(SAMPLES[name]())


@every_sample
def test_tags_are_closed_and_attributes_harmless(name):
    tags = Tags(page(SAMPLES[name]()))
    assert tags.open == []
    assert [tag for tag, _ in tags.seen].count("script") == 2
    assert not {tag for tag, _ in tags.seen} & {"img", "iframe", "object", "embed", "form", "base", "link"}
    for attribute, value in tags.attributes:
        assert attribute not in ("style", "src")
        assert not attribute.startswith("on")
        if attribute == "href":
            assert value.startswith("#")


@pytest.mark.parametrize("name", ["hostile", "hostile contents"])
def test_names_are_text_without_controls(name):
    text = page(SAMPLES[name]())
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not set(text) & {*map(chr, range(9)), *"\x0b\x1b\x7f\u202e\u202c\u200b\ufeff", "\udc80"}
    names = names_of(data_of(text)["names"])
    assert any(shown.endswith("</script><script>alert(2)</script>") for shown in names)
    assert not any(set(shown) & set("\n\r\t\x00\x1b\u202e") for shown in names)
    assert max(map(len, names)) <= html_data.NAME_LIMIT
    text.encode("utf-8")


def test_policy_is_first_and_has_the_hashes_of_what_is_in_the_page():
    text = page(SAMPLES["yolo"]())
    tag, attributes = next(seen for seen in Tags(text).seen if seen[0] not in ("html", "head"))
    assert (tag, attributes["http-equiv"]) == ("meta", "Content-Security-Policy")
    policy = attributes["content"]
    assert "unsafe" not in policy
    for kind, pattern in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        (inside,) = re.findall(pattern, text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_our_own_script_is_small_and_writes_no_markup():
    script = html._script()
    assert len((script + html._asset("report.css")).encode()) <= 100_000
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(|XMLHttp|import\("
    assert not re.search(forbidden, script)
    assert "</script" not in script


def test_every_template_escapes():
    environment = html._environment()
    assert environment.autoescape is True
    for template in environment.list_templates():
        source = environment.loader.get_source(environment, template)[0]
        unescaped = re.findall(r"\{\{[^}]*\|\s*safe[^}]*\}\}", source)
        assert all('"\\n" | safe' in found for found in unescaped), template


# -- sizes ---------------------------------------------------------------------------------------


def shuffled(tensors):
    """Experts of forty shapes in any order, under names that say nothing, in another order."""
    chance = random.Random(7)
    shapes = [4 * chance.randrange(1, 1 << 20) for _ in range(40)]
    order = list(range(tensors))
    chance.shuffle(order)
    rows, end = [], 0
    for number in range(tensors):
        size = chance.choice(shapes)
        name = f"model.layers.{number // 700}.experts.{number // 7 % 100}.w{number % 7}.weight"
        before = Place(f"onnx::MatMul_{order[number]}", 0, 64 * order[number], size, "float16", (size // 2,))
        after = Place(name, 0, end, 2 * size, "float32", (size // 2,))
        end += 2 * size + chance.randrange(64)
        how = "cast float16 -> float32"
        rows += [
            Row("carried", "", name, size, size, "proved", how, 1, size // 2, before, after),
            Row("dtype", "float16 -> float32", name, 0, size, "proved", how, 1, size // 2, before, after),
        ]
    return diff_report(*samples.case(rows))


@pytest.mark.parametrize("make", [reports.transformer, shuffled])
@pytest.mark.parametrize(("tensors", "most"), [(1_000, 200_000), (100_000, 1_200_000)])
def test_the_file_is_small(make, tensors, most):
    assert len(page(make(tensors)).encode()) <= most


# -- what the script gets ------------------------------------------------------------------------


def texts_of(table):
    """A column of texts from its distinct values, as the script reads it."""
    known, texts = 0, []
    for back in table["at"]:
        known += back == 0
        texts.append(table["values"][known - (back or 1)])
    assert known == len(table["values"])
    return texts


def sizes_of(data, column):
    """A column of sizes, as the script reads it: what type and shape ask for is added."""
    which = 0 if column == "before" else -1
    absent = {"before": 2, "after": 1}[column]
    sizes = []
    for row, (dtype, shape) in enumerate(zip(texts_of(data["dtype"]), texts_of(data["shape"]), strict=True)):
        bits = data["bits"].get(dtype.split(" → ")[which], 0)
        for text in shape.split(" → ")[which].split("x"):
            bits *= 1 if text == "scalar" else int(text)
            if not 0 <= bits <= 2**52:
                bits = 0
                break
        there = data["kind"] == "inspect" or not data["side"][row] & absent
        sizes.append(data[column][row] + there * -(-bits // 8))
    return sizes


@pytest.mark.parametrize("name", ["yolo", "every cause", "onnx", "external", "same", "one", "nothing"])
def test_data_of_a_diff_sum_to_both_files(name):
    report = SAMPLES[name]()
    data = data_of(page(report))
    for column, side in (("before", 2), ("after", 3)):
        total = sum(sizes_of(data, column)) + sum(other[side] for other in data["others"])
        assert total == getattr(report, column).bytes
    assert len(names_of(data["names"])) == len(report.tensors)
    places = sorted(place.name for pair in report.tensors if (place := pair.after or pair.before))
    assert sorted(names_of(data["names"])) == places


@pytest.mark.parametrize("name", ["inspected", "train", "hostile contents"])
def test_data_of_an_inventory_sum_to_the_file(name):
    report = SAMPLES[name]()
    data = data_of(page(report))
    assert sum(sizes_of(data, "after")) + sum(other[3] for other in data["others"]) == report.side.bytes
    assert len(data["after"]) == len(report.tensors)


def test_offsets_come_back():
    report = SAMPLES["onnx"]()
    data = data_of(page(report))
    end, found = 0, set()
    names, sizes = names_of(data["names"]), {column: sizes_of(data, column) for column in ("before", "after")}
    for row, distance in enumerate(data["offset"]):
        start = end + distance
        end = start + sizes["before" if data["side"][row] == 1 else "after"][row]
        found.add((names[row], start))
    assert found == {(place.name, place.offset) for pair in report.tensors if (place := pair.after or pair.before)}


def test_the_smallest_others_are_summed():
    rows = [Row("graph", "", f"op {number}", number + 1, 0, "parsed", "") for number in range(1_000)]
    data = html_data.of_diff(diff_report(*samples.case(rows)))
    assert len(data["others"]) == html_data.OTHERS_LIMIT + 1
    assert data["others"][-1][1] == "600 more"
    assert sum(other[2] for other in data["others"]) == 500_500


def test_texts_come_back():
    report = SAMPLES["onnx"]()
    data = data_of(page(report))
    rows = zip(names_of(data["names"]), *(texts_of(data[key]) for key in ("dtype", "shape", "cause", "evidence", "how")), strict=True)
    assert sorted(rows) == sorted(
        (pair.name, pair.dtype.replace(" -> ", " → "), pair.shape.replace(" -> ", " → "), " ".join(pair.causes),
         pair.evidence, pair.how.replace(" -> ", " → "))
        for pair in report.tensors
    )  # fmt: skip


def test_waste_is_known_by_tensor():
    data = data_of(page(SAMPLES["train"]()))
    assert set(texts_of(data["cause"])) == {"", "optimizer-state", "ema-copy"}


# -- the waterfall -------------------------------------------------------------------------------


@every_sample
def test_bars_are_connected_from_size_to_size(name):
    report = SAMPLES[name]()
    diff = hasattr(report, "causes")
    chart = waterfall.of_diff(report) if diff else waterfall.of_inspect(report)
    level = report.before.bytes if diff else 0
    for bar in chart.bars[diff:-1]:
        assert level in (bar.start, bar.end)
        level = bar.level
    assert level == (report.after if diff else report.side).bytes
    assert len(chart.bars) <= waterfall.MAX_BARS + 1 + 2
    for _, start, end, _ in waterfall.steps(chart):
        assert 0 <= start <= end <= 1


def test_a_slight_change_cuts_the_axis_and_says_so():
    assert waterfall.of_diff(SAMPLES["slight"]()).floor > 9_000_000
    assert "The axis begins at" in page(SAMPLES["slight"]())
    assert "The axis begins at" not in page(SAMPLES["yolo"]())


# -- provenance ----------------------------------------------------------------------------------


def test_digests_are_those_of_the_files():
    text = page(SAMPLES["external"]())
    for name in ("yolov5-micro.pt", "yolov5-micro-dynamo.onnx", "yolov5-micro-dynamo.onnx.data"):
        assert hashlib.sha256((MODELS / name).read_bytes()).hexdigest() in text
    assert "not computed" not in text
    assert "not computed" in page(SAMPLES["yolo"]())


def test_no_digest_of_a_file_that_changed_or_became_a_link(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "secret").write_bytes(b"data")
    (tmp_path / "m.data").symlink_to("secret")
    files = [FileRow(str(tmp_path / name), size) for name, size in (("m.onnx", 5), ("m.data", 4), ("gone", 1))]
    digest = hashlib.sha256(b"model").hexdigest()
    assert checksums.sha256(files) == [digest, "", ""]
    assert checksums.sha256([files[0]._replace(bytes=6)]) == [""]


@pytest.mark.parametrize("name", ["onnx", "external", "train", "same"])
def test_no_folder_is_in_the_page(name):
    text = page(SAMPLES[name]())
    assert str(MODELS) not in text
    assert str(MODELS.parent) not in text


def test_a_file_beside_itself_is_named_without_its_folder():
    same = api.compare(*(samples.artifact("/home/me/a.pt", [(8, "graph", "x")]) for _ in range(2)))
    assert same.headline.startswith("a.pt compared with itself")
    twins = [samples.artifact(f"/home/me/{name}/a.pt", [(8, "graph", "x")]) for name in ("old", "new")]
    assert api.compare(*twins).headline.startswith("old/a.pt and new/a.pt have")
    assert "/home/me" not in api.compare(*twins).to_html()


def test_warnings_name_the_file_without_its_folder():
    artifact = samples.artifact("/home/me/a.pt", [(8, "graph", "x")], warnings=("odd <b>",))
    text = page(inspect_report(artifact, []))
    assert "<li>a.pt: odd &lt;b&gt;</li>" in text


# -- words ---------------------------------------------------------------------------------------


def test_fixes_say_what_they_exclude():
    rows = [
        Row("pickle", "", "history", 0, 500, "parsed", ""),
        Row("optimizer-state", "", "m", 0, 400, "parsed", ""),
        Row("value-info", "", "v", 0, 100, "parsed", ""),
    ]
    fixes = {fix.cause: fix for fix in diff_report(*samples.case(rows)).fixes}
    assert fixes["pickle"].not_with[0].startswith("save the weights without optimizer state: ")
    assert fixes["optimizer-state"].not_with[0].startswith("save a state dict")
    assert fixes["value-info"].not_with == ()
    assert "del model.graph.value_info[:]" in fixes["value-info"].code
    assert "nothing: it can be combined" in page(diff_report(*samples.case(rows)))


def test_code_compiles():
    for (cause, artifact_format), code in words._CODE.items():
        assert words.code(cause, artifact_format) == code
        if not code.startswith("zip "):
            compile(code, cause, "exec")
    assert words.code("graph", "onnx") == ""


def test_evidence_in_words():
    report = SAMPLES["yolo"]()
    assert {entry.evidence.summary for entry in report.causes} == {"proved", "parsed"}
    assert re.search(r"proved [\d.]+ %, parsed [\d.]+ %", " ".join(
        entry.evidence.summary for entry in SAMPLES["onnx"]().causes
    ))  # fmt: skip


# -- ways to ask for it --------------------------------------------------------------------------


def test_api_and_command_line_write_the_same_page(tmp_path, capsys):
    paths = [str(MODELS / name) for name in ("tied.pt", "tied-legacy.onnx")]
    diff = api.diff(*paths)
    diff.save(tmp_path / "api.html")
    assert cli.run(["diff", *paths, "-o", str(tmp_path / "cli.html")]) == 0
    assert (tmp_path / "api.html").read_text() == (tmp_path / "cli.html").read_text() == diff.to_html()
    found = api.inspect(paths[0])
    assert cli.run(["inspect", paths[0], "-o", str(tmp_path / "found.html")]) == 0
    assert (tmp_path / "found.html").read_text() == found.to_html()
    capsys.readouterr()


def test_a_map_has_no_page(tmp_path, capsys):
    path = tmp_path / "map.html"
    assert cli.run(["map", str(MODELS / "tied.pt"), "-o", str(path)]) == 2
    assert ".json" in capsys.readouterr().err
    with pytest.raises(InputError):
        save.save(samples.inspected()[0], str(path))
    assert not path.exists()


@every_sample
def test_notebook_view_has_the_answer_and_the_chart(name):
    text = html.notebook(SAMPLES[name](), 5)
    tags = Tags(text)
    assert tags.open == []
    assert "svg" in {tag for tag, _ in tags.seen}
    assert "script" not in {tag for tag, _ in tags.seen}
