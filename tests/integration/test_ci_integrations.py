"""What teams put into their pipelines, run with the commands that the runners call."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
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
if "--jq" in options:
    done = subprocess.run(["jq", "-r", options["--jq"]], input=json.dumps(comments), text=True, check=True)
    sys.exit(0)
key, _, value = options["-F"].partition("=@")
assert key == "body"
body = open(value, encoding="utf-8").read()
if options["--method"] == "POST":
    assert place == "repos/acme/detector/issues/7/comments"
    comments.append({{"id": 100 + len(comments), "user": {{"login": "github-actions[bot]"}}, "body": body}})
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
        self.environment = {
            "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "RUNNER_TEMP": str(self.temp),
            "GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.output),
            "GITHUB_REPOSITORY": "acme/detector", "GH_TOKEN": "secret", "PULL_REQUEST": "7",
            "STUB_COMMENTS": str(self.store), "STUB_LOG": str(self.log),
        }  # fmt: skip

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
    assert [line.split()[0] for line in runner.log.read_text("utf-8").splitlines()] == ["GET", "POST", "GET", "PATCH"]


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
    assert not runner.summary.exists()
    assert runner.comments == []


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


def test_the_steps_of_the_action_run_as_they_are_written(runner):
    """The last step, with the variables of a runner; the first one would need the network."""
    runner.configure(BROKEN)
    step = ACTION["runs"]["steps"][-1]
    venv = runner.temp / "sizeforensics-venv" / "bin"
    venv.mkdir(parents=True)
    shutil.copy(runner.temp.parent / "bin" / "sizeforensics", venv)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=runner.folder,
        env={**runner.environment, "GITHUB_ACTION_PATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(runner.comments) == 1


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
