"""Rooms, from the syntax trees: who may import whom, no circles, no hall, and views of rows without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "mdebench"
MOST_AT_ROOT, MOST_IN_A_ROOM, LONGEST_CHAIN = 12, 16, 9
# Room → the rooms it may import from, beside the root's modules, on which every room stands.
MAY = {
    "compute": set(),
    "results": set(),
    "data": {"compute"},
    "methods": {"compute"},
    "training": {"methods", "data", "results", "compute"},
    "evaluation": {"training", "methods", "data", "results", "compute"},
    "tables": {"results"},
    "figures": {"results"},
    "report": {"figures", "tables", "results"},
    "bench": {"evaluation", "training", "methods", "data", "results", "compute"},
    "suite": {
        "report",
        "figures",
        "tables",
        "bench",
        "evaluation",
        "training",
        "methods",
        "data",
        "results",
        "compute",
    },
}
MAY["cli"] = {*MAY, "suite"}
WITHOUT_TORCH = ("results", "tables", "figures", "report")


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(CORE.rglob("*.py"))}


def imported(path, lazily=True):
    """What a file imports from the project: whole names of modules. Types alone are no import."""
    tree = ast.parse(path.read_text())
    found = set()

    def visit(nodes):
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found.update(name if name in MODULES else node.module for name in names)
            elif lazily or not isinstance(node, ast.FunctionDef):
                visit(ast.iter_child_nodes(node))

    visit(tree.body)
    return {name for name in found if name.partition(".")[0] == "mdebench"}


def room(module):
    """ "mdebench.data.pack" → "data"; "" for a module at the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (CORE / parts[1]).is_dir() else ""


def graph(of=lambda module: module, lazily=True):
    edges = {}
    for module, path in MODULES.items():
        edges.setdefault(of(module), set()).update(of(name) for name in imported(path, lazily))
    return {node: heads - {node} for node, heads in edges.items()}


def circle(edges):
    """A path that comes back to where it began, or None."""
    done, path = set(), []

    def search(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        path.append(node)
        found = next(filter(None, map(search, sorted(edges.get(node, ())))), None)
        path.pop()
        done.add(node)
        return found

    return next(filter(None, map(search, sorted(edges))), None)


def test_every_room_is_known_and_says_what_belongs_there():
    rooms = {path.name for path in CORE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(MAY)
    for name in rooms:
        assert len(ast.get_docstring(ast.parse((CORE / name / "__init__.py").read_text())) or "") > 60, name


def test_there_is_no_hall():
    assert len(list(CORE.glob("*.py"))) <= MOST_AT_ROOT
    for folder in [path for path in CORE.rglob("*") if path.is_dir() and path.name != "__pycache__"]:
        here = [path for path in folder.iterdir() if path.name != "__pycache__"]
        assert len(here) <= MOST_IN_A_ROOM, f"{folder}: {len(here)}"


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_those_below_it(module):
    own = room(module)
    others = {room(name) for name in imported(MODULES[module])} - {own, ""}
    if own:
        assert others <= MAY[own]
    elif module not in ("mdebench", "mdebench.__main__"):  # the public face and the command line stand above all
        assert not others


def test_there_is_no_circle_between_files_nor_between_rooms():
    assert circle(graph()) is None
    between = graph(room)
    between.pop("")
    assert circle({name: heads - {""} for name, heads in between.items()}) is None


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_the_way_down_from_the_command_line_is_short():
    between = graph(room)

    def longest(name):
        return 1 + max((longest(other) for other in between[name] - {""}), default=0)

    assert longest("cli") + 1 <= LONGEST_CHAIN  # and the root


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_baseline_and_no_protocol(module):
    assert not [
        name for name in imported(MODULES[module]) if name.startswith(("mdebench.baselines", "mdebench.protocols"))
    ]


@pytest.mark.parametrize("folder", ["baselines", "protocols"])
def test_one_file_knows_no_other_of_its_kind(folder):
    for path in (ROOT / folder).glob("*.py"):
        tree = ast.walk(ast.parse(path.read_text()))
        # What several share stands beside them under a name that the catalog passes over.
        assert all(node.module.startswith("_") for node in tree if isinstance(node, ast.ImportFrom) and node.level)
        assert not [name for name in imported(path) if name.split(".")[1] in ("baselines", "protocols", "cli", "suite")]


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in WITHOUT_TORCH])
def test_views_of_rows_name_no_torch(module):
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {name for name in names if name and name.partition(".")[0] in ("torch", "torchvision", "timm")}


def test_views_of_rows_load_no_torch():
    views = ", ".join(name for name in MODULES if room(name) in WITHOUT_TORCH)
    code = f"import sys, {views}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_help_loads_nothing_slow():
    slow = {"torch", "pandas", "numpy", "sklearn", "PIL", "matplotlib"}
    code = f"import sys, mdebench.cli.main; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
