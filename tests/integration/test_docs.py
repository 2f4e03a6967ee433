"""The documentation builds without a warning, and what it shows was run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from types import ModuleType
from urllib.parse import urlsplit

import click
import numpy as np
import pytest
import yaml

import sizeforensics
from docs import _generate
from sizeforensics import formats
from sizeforensics.budget import config
from sizeforensics.budget.config import load
from sizeforensics.budget.rules import LIMITABLE
from sizeforensics.causes import CAUSES
from sizeforensics.cli import cli
from sizeforensics.errors import InputError
from sizeforensics.limits import Limits
from tests.golden import snippets
from tests.golden.readme import PAGES, README, ROOT, quotes, run

MODELS = ROOT / "fixtures" / "models"
FORMAT_PAGE = ROOT / "docs" / "howto" / "add-a-format.md"
QUOTES = [quote for page in PAGES for quote in quotes(page)]
STALE = "stale: run python -m tests.golden"


def read(page):
    return page.read_text("utf-8")


def blocks(language, pages=PAGES):
    return [
        pytest.param(text, id=f"{page.stem}-{number}")
        for page in pages
        for number, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE))
    ]


def test_every_kind_of_block_is_known_here():
    kinds = {kind for page in PAGES for kind in re.findall(r"^```(\S+)$", read(page), re.MULTILINE)}
    assert kinds == {"console", "bash", "toml", "yaml", "python", "text", "{toctree}"}
    texts = sum(read(page).count("```text\n") for page in PAGES)
    assert texts == sum(read(page).count("<!-- printed -->\n```text\n") for page in PAGES)


# -- commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("quote", QUOTES, ids=lambda quote: quote.command)
def test_quotes_what_its_commands_print(quote):
    assert run(quote.command, ROOT) == quote.text, STALE


def test_every_command_with_output_is_quoted():
    shown = [line for page in PAGES for line in re.findall(r"^\$ .*", read(page), re.MULTILINE)]
    assert [f"$ {quote.command}" for quote in QUOTES] == shown


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The project of a reader: models in ``dist``, snapshots in ``sizes``, the first budget shown."""
    for folder in ("bin", "dist", "sizes", ".cache/huggingface"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(MODELS / "yolov5-mini.pt", tmp_path / "dist" / "yolov5s.pt")
    shutil.copy(MODELS / "yolov5-mini-fp16.onnx", tmp_path / "dist" / "yolov5s.onnx")
    shutil.copy(MODELS / "tied-legacy.onnx", tmp_path / "model.onnx")
    sizeforensics.inspect(MODELS / "yolov5-mini-fp16.onnx").save_snapshot(tmp_path / "sizes" / "yolov5s.json")
    (budget, *_) = blocks("toml", [ROOT / "docs" / "howto" / "budgets.md"])
    (tmp_path / "sizeforensics.toml").write_text(budget.values[0], "utf-8")
    ours = tmp_path / "bin" / "sizeforensics"
    ours.write_text(f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m sizeforensics \"$@\"\n", "utf-8")
    ours.chmod(0o755)
    monkeypatch.setenv("PATH", str(ours.parent), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_run(text, project):
    if "pip install" in text:
        # The first command of the README: a machine without this package runs that one.
        (command,) = re.findall(r"<!-- main-job -->\n```bash\n(.*)\n", read(README))
        setup, activate = text.splitlines()
        assert command.startswith(f"{setup} && ")
        assert activate == "source .venv/bin/activate"
        return
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=project, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


INLINE = sorted({
    command for page in (*PAGES, README) for command in re.findall(r"`(sizeforensics [^`]+)`", read(page))
})  # fmt: skip


@pytest.mark.parametrize("text", INLINE)
def test_commands_in_a_sentence_are_ones_the_program_has(text):
    verb, *words = shlex.split(text)[1:]
    known = [] if verb.startswith("-") else cli.commands[verb].params
    options = {name for parameter in (*cli.params, *known) for name in parameter.opts} | {"--help", "-h"}
    assert {word for word in (verb, *words) if word.startswith("-")} <= options


# -- configurations ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", blocks("toml"))
def test_configurations_are_ones_that_check_reads(text, tmp_path):
    (tmp_path / "sizeforensics.toml").write_text(text, encoding="utf-8")
    assert load(tmp_path / "sizeforensics.toml")


YAML = [yaml.safe_load(block.values[0]) for block in blocks("yaml")]


def test_every_pipeline_is_of_a_kind_that_is_checked_here():
    assert all({"steps", "jobs", "repos", "size-budgets"} & set(document) for document in YAML)


def test_workflows_give_the_action_what_it_takes_and_use_what_it_gives():
    action = yaml.safe_load(read(ROOT / "action.yml"))
    workflows = [document for document in YAML if "steps" in document or "jobs" in document]
    for workflow in workflows:
        steps = workflow.get("steps") or workflow["jobs"]["sizes"]["steps"]
        assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@\w+", step["uses"]) for step in steps)
        ours = [step for step in steps if step["uses"].startswith("OWNER/sizeforensics@")]
        assert len(ours) == 1
        assert set(ours[0].get("with", {})) <= set(action["inputs"])
        used = re.findall(r"steps\.(\w+)\.outputs\.([\w-]+)", str(steps))
        assert all(step == ours[0]["id"] and output in action["outputs"] for step, output in used)
    text = read(ROOT / "docs" / "howto" / "github-actions.md")
    assert all(f"`{name}`" in text for name in (*action["inputs"], *action["outputs"]))
    assert workflows[0]["permissions"] == {"contents": "read", "pull-requests": "write"}


def test_the_job_for_gitlab_is_the_tested_one():
    assert [document for document in YAML if "size-budgets" in document] == [
        yaml.safe_load(read(ROOT / "integrations" / "gitlab-ci.yml"))
    ]


def test_the_hook_is_the_one_that_is_defined(tmp_path):
    (hook,) = yaml.safe_load(read(ROOT / ".pre-commit-hooks.yaml"))
    shown = [document for document in YAML if "repos" in document]
    assert shown
    for number, document in enumerate(shown):
        assert [used["id"] for repo in document["repos"] for used in repo["hooks"]] == [hook["id"]]
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(document), "utf-8")
        subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", file], check=True)


# -- Python ------------------------------------------------------------------------------------


SNIPPETS = [
    pytest.param(snippet, id=f"{page.stem}-{number}")
    for page in (README, *PAGES) if page != FORMAT_PAGE
    for number, snippet in enumerate(snippets.snippets(page))
]  # fmt: skip


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_runs_and_prints_what_is_shown(snippet):
    if snippet.is_test:
        code, failures = snippets.run_tests(snippet.code)
        assert code == (0 if snippet.text is None else 1), failures
        assert failures == (snippet.text or ""), STALE
    else:
        assert snippets.run(snippet.code) == (snippet.text or ""), STALE


def test_the_format_that_is_added_reads_what_numpy_writes(tmp_path, monkeypatch):
    reader, row, tests = (snippet.code for snippet in snippets.snippets(FORMAT_PAGE))
    module = ModuleType("sizeforensics.formats.numpy_array")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(formats, "numpy_array", module, raising=False)
    exec(compile(reader, "numpy_array.py", "exec"), vars(module))
    table = vars(formats).copy()
    exec(compile(row, "formats/__init__.py", "exec"), table)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, table["_numpy"]))

    np.save(tmp_path / "array.npy", np.ones((2, 3), "<f4"))
    found = sizeforensics.inspect(tmp_path / "array.npy")
    assert (found.format, [tensor.shape for tensor in found.tensors]) == ("numpy", [(2, 3)])
    file = tmp_path / "test_numpy_array.py"
    file.write_text(tests, "utf-8")
    assert pytest.main(["-q", "-p", "no:cacheprovider", "-c", os.devnull, str(file)]) == 0


# -- links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, README, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme == "https", target
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), target
        elif parts.path:
            assert (page.parent / parts.path).exists(), target
        # The build checks links between pages and their anchors; these are for GitHub's eyes.
        elif parts.fragment and not parts.path:
            headings = re.findall(r"^#+ (.+)$", read(page), re.MULTILINE)
            assert parts.fragment in {re.sub(r"[^\w -]", "", name).strip().lower().replace(" ", "-") for name in headings}


# -- the site ----------------------------------------------------------------------------------


def test_the_reference_is_what_the_code_says():
    folder = ROOT / "docs" / "reference"
    assert {page.stem: read(page) for page in folder.iterdir()} == _generate.pages(), STALE


def build(source, site):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", source, site],
        cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # Of a copy: a build writes the reference, and would hide that it is stale.
    done = build(shutil.copytree(ROOT / "docs", tmp_path_factory.mktemp("source") / "docs"), folder)
    assert done.returncode == 0, done.stderr
    return folder


def ids(page):
    return set(re.findall(r'id="([^"]+)"', read(page)))


def test_lists_every_cause_and_limit(site):
    assert ids(site / "reference" / "causes.html") >= set(CAUSES)
    text = read(site / "reference" / "limits.html")
    assert all(f">{name}<" in text for name in Limits.__dataclass_fields__)


def test_lists_every_verb_with_its_options(site):
    text = read(site / "reference" / "cli.html")
    for name, command in cli.commands.items():
        assert name in ids(site / "reference" / "cli.html")
        options = [known for known in command.params if isinstance(known, click.Option)]
        assert all(known.opts[-1] in text for known in options)


def test_lists_what_the_package_exports_with_what_it_returns(site):
    text, found = read(site / "reference" / "api.html"), ids(site / "reference" / "api.html")
    for name in sizeforensics.__all__:
        if name in ("__version__", "errors"):
            continue
        thing = getattr(sizeforensics, name)
        assert f"sizeforensics.{name}" in found or f"sizeforensics.errors.{name}" in found
        if isinstance(thing, type) and not issubclass(thing, Exception):
            public = {key for key in vars(thing) if not key.startswith("_")} - {"inventory", "report", "waste"}
            assert {f"sizeforensics.{name}.{key}" for key in public} <= found
            for key in public:
                entry = rf'id="sizeforensics\.{name}\.{key}">.*?</dt>\s*<dd>(.*?)</dd>'
                assert re.search(entry, text, re.DOTALL)[1].strip(), f"{name}.{key} has no description"
    assert {"sizeforensics.report.rows.CauseRow.share", "sizeforensics.errors.LimitExceeded"} <= found


def test_lists_every_description_of_the_schemas():
    page = read(ROOT / "docs" / "reference" / "schemas.md")

    def described(value):
        if isinstance(value, dict):
            yield from (part["description"] for part in value.get("properties", {}).values())
            yield from (part["description"] for part in value.get("prefixItems", []))
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from described(part)

    for file in (ROOT / "sizeforensics" / "schemas").iterdir():
        for text in described(json.loads(read(file))):
            assert f"| {text}" in page.replace("\\|", "|")


def test_lists_every_key_of_a_configuration():
    page = read(ROOT / "docs" / "reference" / "configuration.md")
    assert re.findall(r"^### (.+)$", page, re.MULTILINE) == [*config._KEYS, *config._WAIVER_KEYS]
    assert page.count("```toml") == len(config._KEYS) + len(config._WAIVER_KEYS)
    assert all(f"`{name}`" in page or name in CAUSES for name in LIMITABLE)


def test_the_examples_of_all_keys_make_a_configuration(tmp_path):
    page = read(ROOT / "docs" / "reference" / "configuration.md")
    examples = re.findall(r"^```toml\n(.*?)```$", page, re.DOTALL | re.MULTILINE)
    budget, waiver = examples[: len(config._KEYS)], examples[len(config._KEYS) :]
    file = tmp_path / "sizeforensics.toml"
    file.write_text("[budgets.model]\n" + "".join(budget), "utf-8")
    (entry,) = load(file)
    assert entry.optional
    assert len(entry.budget.waivers) == 1
    file.write_text(
        '[budgets.model]\npath = "a"\ncauses = { duplicate = 0 }\n[[budgets.model.waivers]]\n' + "".join(waiver), "utf-8"
    )
    assert load(file)[0].budget.waivers[0].limit == "causes.duplicate"
    for example in budget:
        key = example.partition(" ")[0]
        file.write_text(f'[budgets.model]\npath = "a"\n{example.replace(key, f"{key}s", 1)}', "utf-8")
        with pytest.raises(InputError, match="did you mean"):
            load(file)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [("nowhere.md", "nowhere.md"), ("causes.md#nothing", "nothing"), ("#nothing", "nothing")],
)
def test_a_link_that_leads_nowhere_stops_the_build(tmp_path, target, complaint):
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text(
        "extensions = ['myst_parser']\n"
        + re.search(r"^myst_heading_anchors = .*$", read(ROOT / "docs" / "conf.py"), re.MULTILINE)[0],
        "utf-8",
    )
    (source / "causes.md").write_text("# Causes\n", "utf-8")
    (source / "index.md").write_text(f"# Index\n\n```{{toctree}}\ncauses\n```\n\n[text]({target})\n", "utf-8")
    done = build(source, tmp_path / "site")
    assert done.returncode == 1
    assert complaint in done.stderr
