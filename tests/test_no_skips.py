"""In CI a test that is skipped for a missing part fails; one that needs another machine may be skipped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.skipif(True, reason="machine: no such bus")
def test_of_another_machine(): ...

@pytest.mark.skipif({missing}, reason="no browser")
def test_of_a_missing_part(): ...

@pytest.mark.xfail
def test_that_is_known_to_fail(): assert False
"""


@pytest.mark.parametrize(
    ("missing", "head", "options", "code", "said"),
    [
        (True, "", [], 0, "2 skipped, 1 xfailed"),
        (True, "", ["--no-skips"], 1, "1 skipped, 1 xfailed, 1 error"),
        (False, "", ["--no-skips"], 0, "1 passed, 1 skipped, 1 xfailed"),
        (False, "import pytest; pytest.importorskip('nosuchmodule')", ["--no-skips"], 2, "1 error"),
    ],
)
def test_skips(tmp_path, missing, head, options, code, said):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_some.py").write_text(head + TESTS.format(missing=missing))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", str(tmp_path), *options]
    plain = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # CI says it there
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=plain)
    assert done.returncode == code and said in done.stdout, done.stdout
