"""What the installed command opens, as the kernel sees it: a cold process under strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.test_cases import CASES, ROOT, built

NAMES = [
    name for name in CASES
    if re.match(r"other: external (location|place)|pickle: callables: (REDUCE|exec|a class)|other: TorchScript", name)
]  # fmt: skip
_OPENED = re.compile(r'\bopen(?:at)?\((?:(\d+|AT_FDCWD)[^,]*, )?"((?:[^"\\]|\\.)*)", ([A-Z_|]+)[^=]*= (-?\d+)')
_FORBIDDEN = re.compile(r"\b(execve|connect|socket|clone3?|v?fork)\(")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_sees_nothing_else_opened(name, tmp_path):
    folder, path = built(CASES[name], tmp_path)
    log = tmp_path / "strace.log"
    done = subprocess.run(
        ["strace", "-f", "-o", str(log), "-e", "trace=open,openat,execve,connect,socket,clone,clone3,fork,vfork",
         sys.executable, "-B", "-m", "sizeforensics", "map", path, "--format", "json"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    if "ptrace" in done.stderr and done.returncode == 1:
        pytest.skip("this system does not let strace work")
    lines = log.read_text(errors="replace").splitlines()
    begun = next(at for at, line in enumerate(lines) if f'"{path}", O_RDONLY' in line)
    assert done.returncode == 0, done.stderr
    opened = [found.groups() for line in lines[begun:] if (found := _OPENED.search(line)) and int(found[4]) >= 0]
    assert opened
    own = (sys.prefix, sys.base_prefix, str(ROOT / "sizeforensics"), "/lib", "/usr/lib", "/etc/ld.so.cache")
    for _, where, flags, _ in opened:
        assert where in (path, ".", "data", "sub") or Path(where).resolve().as_posix().startswith(own), where
        assert "O_RDONLY" in flags
    assert not [line for line in lines[begun:] if _FORBIDDEN.search(line)]
    assert not (folder / "canary").exists()
