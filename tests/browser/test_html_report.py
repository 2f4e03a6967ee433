"""The HTML report in a real browser."""

from __future__ import annotations

import csv
import io
import random
import re
from functools import cache
from pathlib import Path

import pytest

from tests.browser import reports
from tests.browser.conftest import JENKINS

pytestmark = pytest.mark.browser


@cache
def report(name):
    known = {
        "onnx": lambda: reports.real("yolov5-mini.pt", "yolov5-mini.onnx"),
        "torchscript": lambda: reports.real("yolov5-mini.pt", "yolov5-mini.torchscript"),
        "tied": lambda: reports.real("tied.pt", "tied-legacy.onnx"),
        "same": lambda: reports.real("tied.pt", "tied.pt"),
        "train": lambda: reports.real("yolov5-micro-train.pt"),
        "external": lambda: reports.real("yolov5-micro.pt", "yolov5-micro-dynamo.onnx"),
        "one": reports.one_tensor,
        "nothing": reports.nothing,
        "slight": reports.slight,
        "odd": reports.odd_shapes,
        "hostile": reports.hostile,
        "hostile contents": reports.hostile_contents,
        "2,000": lambda: reports.transformer(2_000),
        "2,001": lambda: reports.transformer(2_001),
        "10,000": lambda: reports.transformer(10_000),
        "100,000": lambda: reports.transformer(100_000),
    }
    return known[name]()


ORDINARY = ["onnx", "torchscript", "tied", "same", "train", "external", "one", "nothing", "slight"]


# -- without scripts and styles ------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["", JENKINS], ids=["scripts off", "jenkins"])
@pytest.mark.parametrize("name", ["onnx", "train", "hostile"])
def test_the_answer_needs_no_script_and_no_style(show, name, policy):
    options = {"policy": policy} if policy else {"java_script_enabled": False}
    page = show(report(name), **options).page
    assert page.locator("h1").inner_text().startswith(report(name).headline[:20])
    assert page.locator("h1").is_visible()
    chart = page.locator("svg.wide")
    assert chart.bounding_box()["height"] > 100
    bars = chart.locator("rect.total, rect.growth, rect.shrink, rect.part")
    assert bars.count() > 3
    for bar in bars.all():
        assert bar.bounding_box()["height"] >= 14
        assert bar.get_attribute("fill")
    assert page.locator(".badge").is_visible()
    table = page.locator("#causes table, #roles table").first
    assert table.is_visible()
    assert table.locator("tbody tr").count() > 3
    assert page.locator("#needs-script").is_visible()
    for needless in ("#treemap", "#controls"):
        assert not page.locator(needless).is_visible()


def test_no_attribute_needs_unsafe_styles_or_handlers(show):
    page = show(report("hostile"), java_script_enabled=False).page
    names = page.evaluate("[...document.querySelectorAll('body *')].flatMap((one) => one.getAttributeNames())")
    assert not [name for name in names if name == "style" or name.startswith("on")]


# -- silence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onnx", "train", "hostile", "hostile contents", "nothing"])
def test_no_request_no_message_no_violation(show, name):
    opened = show(report(name))
    page = opened.page
    for mode in page.locator("#modes button").all():
        mode.click()
    page.locator("#canvas").click(position={"x": 100, "y": 200})
    page.locator("#search").fill("a")
    for button in page.locator("#table thead button").all():
        button.click()
    with page.expect_download():
        page.locator("#csv").click()
    assert opened.complaints() == []


def test_the_policy_comes_first_and_allows_nothing_else(show):
    page = show(report("onnx")).page
    policy = page.locator("head > *").first
    assert policy.get_attribute("http-equiv") == "Content-Security-Policy"
    content = policy.get_attribute("content")
    assert "default-src 'none'" in content
    assert "unsafe" not in content
    blocked = page.evaluate("""() => {
        const script = document.createElement('script');
        try { script.textContent = 'window.pwned = 1'; } catch (error) { return error.name; }
        document.body.append(script);
        return window.pwned;
    }""")
    assert blocked == "TypeError"


@pytest.mark.parametrize("name", ["hostile", "hostile contents"])
def test_hostile_names_are_text(show, name):
    opened = show(report(name))
    page = opened.page
    assert page.locator("script").count() == 2
    strangers = page.locator("body img, body iframe, body object, body form, body a:not(nav a, .fix-line a), svg [onload]")
    assert strangers.count() == 0
    assert page.evaluate("({}).polluted === undefined && Object.keys(Object.prototype).length === 0")
    text = page.evaluate("document.documentElement.textContent")
    assert "<script>alert(1)</script>" in text
    assert "\\u202e" in text
    assert not set(text) & set("\x1b\u202e\u202c\u200b\ufeff\x07\x00")
    page.locator("#search").fill("<script>")
    assert page.locator("#table tbody tr").count() >= 1
    page.locator("#table tbody button").first.click()
    assert page.locator("#readout").inner_text()
    assert page.locator("h1 *, #readout *, #crumbs script").count() == 0
    assert opened.complaints() == []


def test_a_hostile_hash_is_ignored(show):
    place = "#m=__proto__&z=9.9.9&r=99999999&q=%3Cimg%3E&c=x%22&s=constructor&o=zz&p=-5"
    opened = show(report("onnx"), place=place)
    assert opened.page.locator("#count").inner_text().startswith("No tensor")
    assert opened.complaints() == []


def test_csv_export_is_whole_and_inert(show):
    page = show(report("hostile")).page
    with page.expect_download() as download:
        page.locator("#csv").click()
    text = Path(download.value.path()).read_bytes().decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == 1 + len(report("hostile").tensors)
    assert {len(row) for row in rows} == {len(rows[0])}
    after = rows[0].index("after")
    assert sum(int(row[after]) for row in rows[1:]) == sum(pair.after_bytes for pair in report("hostile").tensors)
    for row in rows[1:]:
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
            assert not cell.startswith("-") or re.fullmatch(r"-\d+", cell)


# -- treemap -------------------------------------------------------------------------------------


def picture(page):
    return page.evaluate("document.getElementById('canvas').toDataURL()")


def names_in_tree(page):
    return page.locator("#tree .name").all_inner_texts()


def test_treemap_draws_and_modes_switch_without_reordering(show):
    page = show(report("onnx")).page
    pictures, orders = set(), []
    for mode in ("After", "Before", "|Change|"):
        page.get_by_role("button", name=mode, exact=True).click()
        pictures.add(picture(page))
        orders.append(names_in_tree(page))
    assert len(pictures) == 3
    merged = sorted({name for order in orders for name in order})
    rank = {name: [order.index(name) for order in orders if name in order] for name in merged}
    for a in merged:
        for b in merged:
            signs = {order.index(a) < order.index(b) for order in orders if a in order and b in order}
            assert len(signs) <= 1 or a == b, rank
    assert "m=change" in page.url


def test_container_padding_and_unexplained_stay_in_view(show):
    page = show(report("onnx")).page
    for mode in ("After", "Before", "|Change|"):
        page.get_by_role("button", name=mode, exact=True).click()
        words = " ".join(page.locator("#always button").all_inner_texts())
        assert re.search(r"container .* B.*padding .* B.*unexplained 0 B", words)
    page.locator("#always button").first.click()
    assert page.locator("#crumbs [aria-current]").inner_text() == "container"


def test_zoom_by_click_crumbs_and_history(show):
    page = show(report("onnx")).page
    start = picture(page)
    page.locator("#tree [role=treeitem]").first.click()
    assert page.locator("#crumbs [aria-current]").inner_text() == "tensors"
    deeper = picture(page)
    assert deeper != start
    page.go_back()
    page.wait_for_function("document.querySelectorAll('#crumbs button').length === 1")
    assert picture(page) == start
    page.go_forward()
    page.wait_for_function("document.querySelectorAll('#crumbs button').length === 2")
    page.locator("#crumbs button").first.click()
    assert picture(page) == start


def test_state_survives_a_reload(show):
    page = show(report("onnx")).page
    page.get_by_role("button", name="Before", exact=True).click()
    page.locator("#tree [role=treeitem]").first.click()
    page.locator("#search").fill("conv")
    page.locator("#table thead button").first.click()
    page.locator("#table tbody button").first.click()
    kept = [picture(page), page.locator("#count").inner_text(), page.locator("tr.chosen").inner_text(), page.url]
    page.reload()
    page.wait_for_selector("html[data-ready]")
    again = [picture(page), page.locator("#count").inner_text(), page.locator("tr.chosen").inner_text(), page.url]
    assert again == kept


def test_keyboard_walks_the_tree(show):
    page = show(report("onnx")).page
    page.locator("#tree [tabindex='0']").focus()

    def focused():
        return page.evaluate("document.activeElement.querySelector('.name').textContent")

    assert focused() == "tensors"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("ArrowRight")
    assert focused() != "tensors"
    assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "2"
    assert not page.locator("#hover").is_hidden()
    page.keyboard.press("ArrowLeft")
    assert focused() == "tensors"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("End")
    last = focused()
    page.keyboard.press("ArrowUp")
    assert focused() != last
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    assert page.locator("#crumbs [aria-current]").inner_text() == "tensors"
    page.keyboard.press("Escape")
    assert page.locator("#crumbs button").count() == 1
    assert page.evaluate("document.activeElement.role") == "treeitem"


def test_a_box_and_its_row_find_each_other(show):
    page = show(report("onnx")).page
    button = page.locator("#table tbody button").first
    name = button.inner_text()
    button.click()
    assert not page.locator("#chosen").is_hidden()
    assert page.locator("#readout").inner_text().startswith(name)
    assert page.locator("#tree [aria-selected=true]").count() == 1
    middle = page.evaluate("""() => {
        const box = document.getElementById('chosen');
        return { x: box.offsetLeft + box.offsetWidth / 2, y: box.offsetTop + box.offsetHeight / 2 };
    }""")
    page.locator("#search").fill("nothing has this name")
    assert page.locator("tr.chosen").count() == 0
    page.locator("#canvas").click(position=middle)
    assert page.locator("tr.chosen th").inner_text() == name
    assert page.locator("#search").input_value() == ""
    page.get_by_role("button", name="Show in table").click()
    assert page.evaluate("document.activeElement.textContent") == name
    assert page.locator("tr.chosen").is_visible()


def test_rows_on_other_pages_are_found_too(show):
    page = show(report("10,000"), place="#r=4321").page
    assert page.locator("tr.chosen").count() == 1
    assert not page.locator("#chosen").is_hidden()
    assert page.locator("#pages").inner_text().rstrip().endswith("of 100")


def test_layout_is_that_of_the_squarify_package(show):
    squarify = pytest.importorskip("squarify")
    page = show(report("one")).page
    chance = random.Random(20240229)
    for _ in range(60):
        sizes = [chance.choice((1, 2.5, 10, 300, 7_000)) * chance.random() + 0.01 for _ in range(chance.randrange(1, 80))]
        if chance.random() < 0.5:
            sizes.sort(reverse=True)
        width, height = chance.uniform(50, 1_500), chance.uniform(50, 900)
        theirs = squarify.squarify(squarify.normalize_sizes(sizes, width, height), 3, 5, width, height)
        ours = page.evaluate("([sizes, w, h]) => squarify(sizes, 3, 5, w, h)", [sizes, width, height])
        assert len(ours) == len(theirs)
        for box, other in zip(ours, theirs, strict=True):
            assert box == pytest.approx([other[key] for key in ("x", "y", "dx", "dy")], rel=1e-6, abs=1e-6)


# -- table ---------------------------------------------------------------------------------------


def rows_of(page):
    """All rows that the page lists; the first are drawn at once, the others when there is time."""
    page.wait_for_selector("#table:not([aria-busy=true])")
    return page.locator("#table tbody tr").count()


def test_search_filters_and_sorting(show):
    page = show(report("onnx")).page
    assert f"of {len(report('onnx').tensors)}" in page.locator("#count").inner_text()
    everything = rows_of(page)
    assert everything == len(report("onnx").tensors) > 200
    page.locator("#search").fill("MODEL.24")
    some = rows_of(page)
    assert 0 < some < everything
    page.locator("#filters select").nth(0).select_option("constant")
    assert 0 < rows_of(page) < some
    assert "that match" in page.locator("#count").inner_text()
    page.locator("#search").fill("")
    page.locator("#filters select").nth(0).select_option("")
    page.locator("#filters select").nth(2).select_option("parsed")
    assert rows_of(page) < everything
    assert set(page.locator("#table tbody td:nth-child(9)").all_inner_texts()) == {"parsed"}
    page.locator("#filters select").nth(2).select_option("")
    for number, title in enumerate(page.locator("#table thead button").all_inner_texts()):
        head = page.locator("#table thead th").nth(number)
        head.locator("button").click()
        first = head.get_attribute("aria-sort")
        assert first in ("ascending", "descending"), title
        head.locator("button").click()
        assert {first, head.get_attribute("aria-sort")} == {"ascending", "descending"}
        assert page.locator("#table thead th:not([aria-sort=none])").count() == 1
    page.locator("#table thead button").nth(1).click()
    assert rows_of(page) == everything
    sizes = [int(text.replace(",", "")) for text in page.locator("#table tbody tr td:nth-child(2)").all_inner_texts()]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["onnx", "external", "odd", "hostile", "10,000"])
def test_the_foot_of_the_table_adds_up(show, name):
    page = show(report(name)).page
    page.locator("#search").fill("weight")
    lines = page.locator("#table tfoot tr").all()
    numbers = [
        [int(cell.replace(",", "").replace("−", "-")) for cell in line.locator("td.number").all_inner_texts()]
        for line in lines
    ]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    book = report(name)
    assert numbers[-1] == [book.before.bytes, book.after.bytes, book.delta_bytes]


@pytest.mark.parametrize(("name", "rows"), [("2,000", 2_000), ("2,001", 100)])
def test_up_to_two_thousand_rows_are_all_in_the_page(show, name, rows):
    page = show(report(name)).page
    assert rows_of(page) == rows
    assert page.locator("#pages").is_visible() == (rows == 100)
    page.locator("#search").fill("weight")
    assert rows_of(page) == min(rows, sum("weight" in pair.name or "weight" in pair.before.name for pair in report(name).tensors))
    page.locator("#search").fill("")
    if rows == 2_000:
        tensors = {pair.name for pair in report(name).tensors}
        rows_of(page)
        assert set(page.locator("#table tbody th").all_inner_texts()) == tensors


def test_a_row_that_waits_is_drawn_when_it_is_chosen(show):
    page = show(report("2,000"), place="#r=1999").page
    assert page.locator("tr.chosen").count() == 1
    assert page.locator("tr.chosen").get_attribute("data-row") == "1999"
    assert rows_of(page) == 2_000
    assert page.locator("tr.chosen").count() == 1


def test_large_tables_have_pages_and_say_so(show):
    page = show(report("10,000")).page
    assert rows_of(page) == 100
    assert "1–100 of 10,000; at most 100 are in the page" in page.locator("#count").inner_text()
    first = page.locator("#table tbody tr").first.inner_text()
    page.get_by_role("button", name="Next").click()
    assert "101–200 of 10,000" in page.locator("#count").inner_text()
    assert page.locator("#table tbody tr").first.inner_text() != first
    page.get_by_role("button", name="Last").click()
    assert page.get_by_role("button", name="Next").is_disabled()
    assert "p=100" in page.url


_SEARCH = """text => {
    const box = document.getElementById('search');
    box.value = text;
    box.dispatchEvent(new Event('input'));
    document.getElementById('table').offsetHeight;
}"""


@pytest.mark.parametrize(("name", "limit"), [("onnx", 1.0), ("2,000", 1.0), ("10,000", 1.0), ("100,000", 2.0)])
def test_interactive_in_time(show, name, limit):
    """The processor time of the page's main thread: what it waits for others does not count."""
    sessions = []

    def prepare(page):
        sessions.append(page.context.new_cdp_session(page))
        sessions[0].send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy():
        metrics = sessions[0].send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")

    page = show(report(name), prepare=prepare).page
    ready = busy()
    page.wait_for_timeout(300)
    rows_of(page)
    searches = []
    for text in ("q", "q_proj", "layers.77.", "zzz", "weight", ""):
        start = busy()
        page.evaluate(_SEARCH, text)
        searches.append(round(busy() - start, 4))
        rows_of(page)
    wall = page.evaluate("document.documentElement.dataset.ready")
    print(f"{name}: ready after {ready:.3f} s of work ({wall} ms passed), searches {searches} s")  # noqa: T201  shown by pytest -rP
    assert ready < limit
    assert sorted(searches)[3] < 0.05


# -- looks ---------------------------------------------------------------------------------------

_OVERLAPS = """() => {
    const chart = [...document.querySelectorAll('svg.waterfall')].find((one) => one.getBoundingClientRect().height);
    const visible = (text) => { // a label is clipped by the column it is in
        const box = text.getBoundingClientRect(), whole = chart.getBoundingClientRect();
        const share = text.ownerSVGElement === chart ? 1 : parseFloat(text.ownerSVGElement.getAttribute('width')) / 100;
        const right = Math.min(box.right, whole.left + share * whole.width);
        return { left: box.left, top: box.top, bottom: box.bottom, width: box.width, right };
    };
    const texts = [...chart.querySelectorAll('text')].map((one) => [one.textContent, visible(one)]);
    const inside = chart.getBoundingClientRect();
    const found = texts.filter(([, box]) => box.left < inside.left - 1 || box.right > inside.right + 1).map(([text]) => text);
    for (const [a, one] of texts) for (const [b, two] of texts) {
        if (a < b && one.width && two.width && one.left < two.right && two.left < one.right
            && one.top + 3 < two.bottom - 3 && two.top + 3 < one.bottom - 3) found.push(`${a} / ${b}`);
    }
    for (const [text, box] of texts) for (const bar of chart.querySelectorAll('g rect:not(.cut)')) {
        const rect = bar.getBoundingClientRect();
        if (box.left < rect.right && rect.left < box.right && box.top + 3 < rect.bottom - 3 && rect.top + 3 < box.bottom - 3) found.push(`${text} / bar`);
    }
    return found;
}"""


@pytest.mark.parametrize("name", [*ORDINARY, "hostile", "hostile contents", "10,000"])
def test_nothing_overlaps_or_leaves_the_page(show, name):
    page = show(report(name)).page
    for width in (400, 910, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_OVERLAPS) == []


@pytest.mark.parametrize("name", ["onnx", "train", "10,000"])
def test_targets_are_large_enough(show, name):
    page = show(report(name)).page
    page.locator("#tree [role=treeitem]").first.click()
    small = page.evaluate("""() => [...document.querySelectorAll('a, button, select, input, summary, [role=treeitem]')]
        .map((one) => [one.textContent, one.getBoundingClientRect()])
        .filter(([, box]) => box.width > 0 && (box.height < 24 || box.width < 24)).map(([text]) => text)""")
    assert small == []


_AXE = "async () => (await axe.run(document, { resultTypes: ['violations'] })).violations.map((v) => [v.impact, v.id, v.nodes.slice(0, 3).map((n) => n.html)])"


@pytest.mark.parametrize("name", ["onnx", "train", "same", "nothing", "hostile", "10,000"])
def test_axe_finds_nothing_serious(show, axe, name):
    page = show(report(name)).page
    page.evaluate(axe)
    page.locator("#tree [role=treeitem]").first.click()
    page.locator("#table tbody tr").first.locator("th, td").first.click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert [found for found in page.evaluate(_AXE) if found[0] in ("serious", "critical")] == []


def test_forced_colours_and_reduced_motion(show, axe):
    opened = show(report("onnx"), forced_colors="active", reduced_motion="reduce")
    page = opened.page
    page.evaluate(axe)
    assert [found for found in page.evaluate(_AXE) if found[0] in ("serious", "critical")] == []
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert opened.complaints() == []
