"""What teams put into their pipelines, run with the commands that the runners call."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "fixtures" / "models"
SCRIPT = ROOT / "integrations" / "github-check.sh"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))

KEPT = '[budgets.checkpoint]\npath = "tied.pt"\nmax_bytes = "108 kB"\n'
BROKEN = KEPT + '[budgets.export]\npath = "tied-legacy.onnx"\nforbid = ["duplicate"]\n'

NOT_CHECKED = "<!-- sizeforensics check -->\n\n## ⛔ Size budgets: not checked\n\nThe log of the step says why.\n"

OURS = f"""#!/bin/sh
PYTHONPATH='{ROOT}' exec '{sys.executable}' -m sizeforensics "$@"
"""
# As much of `gh api` as the script asks for; its filter is run by a real jq.
GH = f"""#!{sys.executable}
import json, subprocess, sys, os
words = sys.argv[1:]
assert words.pop(0) == "api"
options, place = {{}}, None
while words:
    word = words.pop(0)
    if word in ("--paginate", "--silent"):
        options[word] = True
    elif word.startswith("-"):
        options[word] = words.pop(0)
    else:
        place = word
store = os.environ["STUB_COMMENTS"]
with open(os.environ["STUB_LOG"], "a") as log:
    print(options.get("--method", "GET"), place, file=log)
if os.environ.get("STUB_FORBIDDEN"):
    sys.exit("HTTP 403: Resource not accessible by integration")
assert os.environ["GH_TOKEN"] == "secret"
comments = json.load(open(store))
me = os.environ.get("STUB_LOGIN", "github-actions[bot]")
if place == "graphql":
    assert options["-f"] == "query={{ viewer {{ login }} }}"
    comments = {{"data": {{"viewer": {{"login": me}}}}}}
if "--jq" in options:
    done = subprocess.run(["jq", "-r", options["--jq"]], input=json.dumps(comments), text=True, check=True)
    sys.exit(0)
key, _, value = options["-F"].partition("=@")
assert key == "body"
body = open(value, encoding="utf-8").read()
if options["--method"] == "POST":
    assert place == "repos/acme/detector/issues/7/comments"
    comments.append({{"id": 100 + len(comments), "user": {{"login": me}}, "body": body}})
else:
    (comment,) = [one for one in comments if place == f"repos/acme/detector/issues/comments/{{one['id']}}"]
    comment["body"] = body
json.dump(comments, open(store, "w"))
"""


def executable(path, text):
    path.write_text(text, "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Runner:
    """A checked-out repository and what the runner of a workflow sets up around a step."""

    def __init__(self, folder):
        self.folder = folder / "repository"
        self.temp = folder / "temp"
        bin_ = folder / "bin"
        for place in (self.folder, self.temp, bin_):
            place.mkdir()
        for name in ("tied.pt", "tied-legacy.onnx"):
            shutil.copy(MODELS / name, self.folder)
        executable(bin_ / "sizeforensics", OURS)
        executable(bin_ / "gh", GH)
        self.summary, self.output = folder / "summary.md", folder / "output.txt"
        self.store, self.log = folder / "comments.json", folder / "log.txt"
        self.store.write_text("[]", "utf-8")
        self.log.write_text("", "utf-8")
        self.outside = {
            "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "RUNNER_TEMP": str(self.temp),
            "GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.output),
            "GITHUB_REPOSITORY": "acme/detector", "STUB_COMMENTS": str(self.store), "STUB_LOG": str(self.log),
        }  # fmt: skip
        self.environment = {**self.outside, "GH_TOKEN": "secret", "PULL_REQUEST": "7"}

    def configure(self, text):
        (self.folder / "sizeforensics.toml").write_text(text, "utf-8")

    def run(self, **environment):
        return subprocess.run(
            [SCRIPT], cwd=self.folder, env={**self.environment, **environment}, capture_output=True,
            encoding="utf-8", check=False,
        )  # fmt: skip

    @property
    def comments(self):
        return json.loads(self.store.read_text("utf-8"))


@pytest.fixture
def runner(tmp_path):
    if shutil.which("jq") is None:
        pytest.skip("the stand-in for gh runs its filters with jq")
    return Runner(tmp_path)


# -- GitHub ------------------------------------------------------------------------------------


def test_red_then_green_with_one_comment(runner):
    runner.configure(BROKEN)
    done = runner.run()
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("::error file=tied-legacy.onnx,title=size budget export%3A duplicate::")
    assert "exit-code=1\n" in runner.output.read_text("utf-8")
    (comment,) = runner.comments
    assert comment["body"].startswith("<!-- sizeforensics check -->\n\n## ❌ ")
    assert "`onnx::MatMul_283`" in comment["body"]
    assert runner.summary.read_text("utf-8") == comment["body"]

    runner.configure(KEPT)
    assert runner.run().returncode == 0
    (edited,) = runner.comments
    assert edited["id"] == comment["id"]
    assert "## ✅ 1 size budget kept" in edited["body"]
    comments = "repos/acme/detector/issues"
    assert runner.log.read_text("utf-8").splitlines() == [
        "GET graphql", f"GET {comments}/7/comments", f"POST {comments}/7/comments",
        "GET graphql", f"GET {comments}/7/comments", f"PATCH {comments}/comments/100",
    ]  # fmt: skip


def test_a_token_of_someone_else_keeps_one_comment_too(runner):
    runner.configure(BROKEN)
    for text in (BROKEN, KEPT, KEPT):
        runner.configure(text)
        runner.run(STUB_LOGIN="size-keeper[bot]")
    (comment,) = runner.comments
    assert comment["user"] == {"login": "size-keeper[bot]"}
    assert "## ✅" in comment["body"]


def test_a_comment_of_someone_else_is_never_edited(runner):
    forged = [{"id": 1, "user": {"login": "mallory"}, "body": "<!-- sizeforensics check -->\nmine"}]
    runner.store.write_text(json.dumps(forged), "utf-8")
    runner.configure(KEPT)
    assert runner.run().returncode == 0
    assert runner.comments[0] == forged[0]
    assert runner.comments[1]["user"] == {"login": "github-actions[bot]"}


@pytest.mark.parametrize("environment", [{"PULL_REQUEST": ""}, {"INPUT_COMMENT": "false"}, {"PULL_REQUEST": "7; touch x"}], ids=str)
def test_no_comment_where_none_is_due(runner, environment):
    runner.configure(KEPT)
    assert runner.run(**environment).returncode == 0
    assert runner.log.read_text("utf-8") == ""
    assert runner.summary.read_text("utf-8").startswith("<!-- sizeforensics check -->")
    assert not (runner.folder / "x").exists()


@pytest.mark.parametrize(("text", "code"), [(KEPT, 0), (BROKEN, 1)])
def test_a_token_that_may_only_read_hides_no_verdict(runner, text, code):
    runner.configure(text)
    done = runner.run(STUB_FORBIDDEN="1")
    assert done.returncode == code
    assert "::warning title=size budgets::the comment could not be written" in done.stdout


def test_bad_input_fails_the_step_with_its_line(runner):
    runner.configure(KEPT.replace("max_bytes", "max_byts"))
    done = runner.run()
    assert done.returncode == 2
    assert "did you mean 'max_bytes'?" in done.stderr
    assert runner.output.read_text("utf-8").startswith("exit-code=2\n")
    assert runner.summary.read_text("utf-8") == NOT_CHECKED


def test_a_comment_that_all_is_well_does_not_outlive_bad_input(runner):
    runner.configure(KEPT)
    runner.run()
    runner.configure(KEPT.replace("max_bytes", "max_byts"))
    assert runner.run().returncode == 2
    (comment,) = runner.comments
    assert comment["body"] == NOT_CHECKED


def test_a_model_that_cannot_be_read_is_a_row_of_the_comment(runner):
    runner.configure(BROKEN)
    (runner.folder / "tied.pt").write_bytes(b"PK\x03\x04 and no more")
    done = runner.run()
    assert done.returncode == 2
    (comment,) = runner.comments
    assert comment["body"].startswith("<!-- sizeforensics check -->\n\n## ⛔ 1 of 2 size budgets broken")
    assert "::error file=tied.pt,title=size budget checkpoint::tied.pt: at 0x" in done.stdout


@pytest.mark.parametrize(
    ("top", "named"), [("", "repo%2C 1/tied-legacy.onnx"), ("repo, 1", "tied-legacy.onnx"), ("elsewhere", "tied-legacy.onnx")]
)
def test_annotations_name_a_file_from_the_top_of_the_repository(runner, top, named):
    folder = runner.folder / "repo, 1"
    folder.mkdir()
    for path in list(runner.folder.glob("tied*")):
        path.rename(folder / path.name)
    (folder / "sizeforensics.toml").write_text(BROKEN, "utf-8")
    workspace = runner.folder / top if top else runner.folder
    done = subprocess.run(
        [SCRIPT], cwd=folder, env={**runner.environment, "GITHUB_WORKSPACE": str(workspace)}, capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    first, last = done.stdout.splitlines()
    assert first.startswith(f"::error file={named},title=size budget export%3A duplicate::FAIL duplicate: ")
    assert last == "::notice title=size budgets::1 of 2 size budgets broken: export"


def test_inputs_are_words_and_never_commands(runner):
    runner.configure(BROKEN)
    assert runner.run(INPUT_BUDGETS="checkpoint\n\ntied.pt\n").returncode == 0
    hostile = "$(touch pwned)`touch pwned`; touch pwned\n--help"
    for name in ("INPUT_BUDGETS", "INPUT_BASELINE", "INPUT_CONFIG"):
        assert runner.run(**{name: hostile}).returncode == 2
    assert sorted(path.name for path in runner.folder.iterdir()) == [
        "sizeforensics.toml", "tied-legacy.onnx", "tied.pt",
    ]  # fmt: skip
    assert runner.run(INPUT_BUDGETS="export", INPUT_BASELINE="tied.pt").returncode == 1
    shutil.copy(runner.folder / "sizeforensics.toml", runner.folder / "other.toml")
    assert runner.run(INPUT_BUDGETS="checkpoint", INPUT_CONFIG="other.toml").returncode == 0


def test_the_action_gives_the_script_what_it_reads_and_shells_no_input():
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    for step in steps:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
        assert subprocess.run(["bash", "-n"], input=step["run"], text=True, check=False).returncode == 0
    wanted = set(re.findall(r"\b(INPUT_[A-Z]+|PULL_REQUEST|GH_TOKEN)\b", SCRIPT.read_text("utf-8")))
    assert set(steps[-1]["env"]) == wanted
    used = set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text("utf-8")))
    assert used == set(ACTION["inputs"])
    assert "integrations/github-check.sh" in steps[-1]["run"]
    assert os.access(SCRIPT, os.X_OK)


CONTEXT = {"github.token": "secret", "github.event.pull_request.number": "7"}


def run_action(runner, steps, **inputs):
    """Steps in order, as a runner goes through a composite action; the one that fails ends it."""
    values = CONTEXT | {
        f"inputs.{name}": inputs.get(name, known.get("default", "")) for name, known in ACTION["inputs"].items()
    }

    def evaluated(text):
        return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda found: values[found[1]], text)

    values["inputs.token"] = evaluated(values["inputs.token"])
    site = sysconfig.get_path("purelib")
    offline = {
        # What the network would bring: the build backend and what the package needs.
        "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHONPATH": site,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_IGNORE_INSTALLED": "1", "PIP_NO_COMPILE": "1", "GITHUB_ACTION_PATH": str(ROOT),
        "PATH": os.pathsep.join([str(runner.temp.parent / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
    }  # fmt: skip
    for step in steps:
        environment = {key: evaluated(value) for key, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=runner.folder / evaluated(step.get("working-directory", ".")),
            env={**runner.outside, **offline, **environment}, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        if done.returncode:
            break
    return done


def test_the_steps_of_the_action_run_in_order_as_they_are_written(runner):
    """It is installed from its own tree, red with one comment, green with the same one edited."""
    (runner.temp.parent / "bin" / "sizeforensics").unlink()
    runner.configure(BROKEN)
    install, check = ACTION["runs"]["steps"]
    done = run_action(runner, [install, check])
    assert done.returncode == 1, done.stderr
    installed = list(runner.temp.glob("sizeforensics-venv/lib/*/site-packages/sizeforensics/cli/budgets.py"))
    assert len(installed) == 1
    assert "::error file=tied-legacy.onnx,title=size budget export%3A duplicate::" in done.stdout
    (comment,) = runner.comments
    done = run_action(runner, [check], budgets="checkpoint\n")
    assert done.returncode == 0, done.stderr
    (edited,) = runner.comments
    assert edited["id"] == comment["id"]
    assert "## ✅ 1 size budget kept" in edited["body"]
    assert run_action(runner, [check], **{"working-directory": "..", "comment": "false"}).returncode == 2
    outputs = dict(line.split("=", 1) for line in runner.output.read_text("utf-8").splitlines())
    assert outputs["exit-code"] == "2"
    for name, known in ACTION["outputs"].items():
        assert known["value"] == "${{ steps.check.outputs." + name + " }}"
        assert name in outputs


@pytest.mark.parametrize(("schema", "path"), [("github-actions", "action.yml"), ("gitlab-ci", "integrations/gitlab-ci.yml")])
def test_the_definitions_follow_the_schemas_of_their_hosts(schema, path):
    checker = Path(sys.executable).with_name("check-jsonschema")
    if not checker.exists():
        pytest.skip("check-jsonschema is not installed")
    command = [checker, "--builtin-schema", f"vendor.{schema}", ROOT / path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_scripts_are_clean():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted((ROOT / "integrations").glob("*.sh"))
    assert scripts
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# -- GitLab ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "code"), [(KEPT, 0), (BROKEN, 1)])
def test_the_gitlab_job(runner, text, code):
    job = yaml.safe_load((ROOT / "integrations" / "gitlab-ci.yml").read_text("utf-8"))["size-budgets"]
    runner.configure(text)
    executable(runner.temp.parent / "bin" / "pip", "#!/bin/sh\n")
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])], cwd=runner.folder, env=runner.environment,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    for path in job["artifacts"]["paths"]:
        assert (runner.folder / path).is_file()
    suites = ET.parse(runner.folder / job["artifacts"]["reports"]["junit"]).getroot()
    assert suites.get("failures") == str(code)


# -- pre-commit --------------------------------------------------------------------------------


@pytest.fixture
def repository(runner, tmp_path):
    """A repository whose hook is ours, without the environment that pre-commit would download."""
    pre_commit = Path(sys.executable).with_name("pre-commit")
    if not pre_commit.exists():
        pytest.skip("pre-commit is not installed")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    hooks = {"repos": [{"repo": "local", "hooks": [{**hook, "language": "system"}]}]}
    (runner.folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(hooks), "utf-8")
    environment = {**runner.environment, "PRE_COMMIT_HOME": str(tmp_path / "cache"), "GIT_CONFIG_GLOBAL": os.devnull}

    def run(*command):
        return subprocess.run(
            command, cwd=runner.folder, env=environment, capture_output=True, text=True, check=False
        )

    runner.configure(KEPT)
    run("git", "init", "-q")
    run("git", "add", "-A")
    return runner, run, str(pre_commit)


def test_the_hook_definition_is_valid():
    pre_commit = Path(sys.executable).with_name("pre-commit")
    if not pre_commit.exists():
        pytest.skip("pre-commit is not installed")
    done = subprocess.run(
        [pre_commit, "validate-manifest", ROOT / ".pre-commit-hooks.yaml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_hook_is_red_and_green(repository):
    runner, run, pre_commit = repository
    assert run(pre_commit, "run").returncode == 0
    runner.configure(BROKEN)
    run("git", "add", "-A")
    done = run(pre_commit, "run")
    assert done.returncode == 1
    assert "onnx::MatMul_283" in done.stdout
    runner.configure(KEPT)
    run("git", "add", "-A")
    assert run(pre_commit, "run").returncode == 0


@pytest.mark.parametrize(
    ("name", "runs"),
    [("dist/a.onnx", True), ("a.safetensors", True), ("sizes/a.json.gz", True), ("pyproject.toml", True),
     ("sub/sizeforensics.toml", True), ("train.py", False), ("notes.md", False), ("my-pyproject.toml", False)],
)  # fmt: skip
def test_the_hook_runs_for_models_and_budgets(name, runs):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert (re.search(hook["files"], name) is not None) == runs
