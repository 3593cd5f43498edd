"""The direction of imports, from the syntax trees: the core knows neither baselines nor protocols, views no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "mdebench").rglob("*.py"))
VIEWS = [
    *("results", "tables", "papertables", "protocoltables", "views", "cells", "lines", "notes", "paired", "tabletext"),
    *("sheets", "gallery", "scenarios", "figures", "report", "album", "exhibits", "settings", "runs"),
]


def imported(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", CORE, ids=lambda p: p.stem)
def test_the_core_imports_no_baseline_and_no_protocol(path):
    wrong = [
        n
        for n in imported(path)
        if n.startswith(("mdebench.baselines", "mdebench.protocols", "baselines", "protocols"))
    ]
    assert not wrong


@pytest.mark.parametrize("folder", ["baselines", "protocols"])
def test_one_file_knows_no_other_of_its_kind(folder):
    for path in (ROOT / folder).glob("*.py"):
        others = [
            n for n in imported(path) if n.startswith(("mdebench.baselines", "mdebench.protocols", "mdebench.cli.main"))
        ]
        # What several share stands beside them under a name that the catalog passes over.
        assert all(n.startswith(f"mdebench.{folder}._") for n in others)


def test_methods_do_not_know_the_loop():
    for name in ("method", "mde", "nets", "losses", "masks", "perceptual"):
        assert not {"mdebench.training.loop", "mdebench.evaluation.measuring", "mdebench.runs"} & set(
            imported(ROOT / "mdebench" / f"{name}.py")
        )


@pytest.mark.parametrize("module", [m for m in VIEWS if (ROOT / "mdebench" / f"{m}.py").exists()])
def test_views_of_rows_load_no_torch(module):
    code = f"import sys, mdebench.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_help_loads_nothing_slow():
    slow = {"torch", "pandas", "numpy", "sklearn", "PIL", "matplotlib"}
    code = f"import sys, mdebench.cli.main; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
