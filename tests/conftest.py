"""Small packs and homes for every test; nothing is written outside tmp_path, and one thread keeps the suite quick."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from mdebench.data import prepare
from mdebench.data.pack import open_pack
from mdebench.home import Home

torch.set_num_threads(1)

ELSEWHERE = "machine: "  # how a reason to skip begins that names a machine which this one is not


def pytest_addoption(parser):
    told = f"a skipped test fails, unless its reason says '{ELSEWHERE}…', of which kind this machine is not"
    parser.addoption("--no-skips", action="store_true", help=told)


def unskipped(report, config):
    """The report of a test, or of a file of tests, that was skipped for a missing part, as one that failed."""
    if report.skipped and not hasattr(report, "wasxfail") and config.getoption("--no-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(ELSEWHERE):
            report.outcome, report.longrepr = "failed", f"--no-skips: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return unskipped((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return unskipped((yield), collector.config)


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A home with the pack toyfaces16: 300 faces of 16×16 pixels, for which the networks have two stages."""
    home = Home(tmp_path_factory.mktemp("home"))
    prepare("toyfaces", root=None, size=16, packs_dir=home.packs, count=300)
    return home


@pytest.fixture
def home(faces, tmp_path):
    """A fresh home that shares the small pack."""
    (tmp_path / "packs").symlink_to(faces.packs)
    return Home(tmp_path)


@pytest.fixture
def pack(home):
    return open_pack(home.packs / "toyfaces16")


@pytest.fixture
def console():
    """A console whose text a test can read back with ``console.file.getvalue()``."""
    return Console(file=io.StringIO(), width=200, markup=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
