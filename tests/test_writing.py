"""Nothing of ours is written in place: from the syntax trees, every write goes through `files`, or into memory."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Whatever writes to a path it is given; the last argument that may be one is looked at.
WRITERS = {"write_text", "write_bytes", "save", "savez", "savez_compressed", "savefig", "to_csv", "to_json", "tofile"}
WRITERS |= {"dump", "to_parquet", "to_hdf", "save_file", "imsave", "imwrite", "copy2", "copyfile", "copytree"}
# File → what is written there in place, each for a reason.
HONEST = {
    "mdebench/files.py": {"open xb"},  # this is how files are written whole
    "mdebench/results/rows.py": {"open w"},  # a lock, always empty
    "mdebench/runs.py": {"open a", "open a+"},  # a lock that says who holds it
    # a folder that is renamed when it is whole, and its lock
    "mdebench/data/writer.py": {"open w", "open wb", "open w+b", "open r+b", "save", "dump"},
    "mdebench/evaluation/encoders/export.py": {"write_bytes", "save"},  # in a temporary folder, tried, then written
    "mdebench/training/loop.py": {"open a"},  # a log grows by lines; a line that a kill cut short is passed over
    "mdebench/compute/launch.py": {"open xb"},  # between processes of one run, in a folder that ends with it
    "mdebench/bench/data.py": {"write_text"},  # made-up pictures in a temporary folder
    "mdebench/bench/clock.py": {"write_text"},  # the kernel's own file
}


def in_memory(tree):
    """Names that stand for memory, or for a stream of `files.writing`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            if ast.unparse(node.context_expr).partition("(")[0].endswith("writing"):
                found.add(node.optional_vars.id)
        elif isinstance(node, ast.Assign) or (isinstance(node, ast.AnnAssign) and node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [each for target in targets for each in getattr(target, "elts", [target])]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(names)
            for name, value in zip(names, values):
                if ast.unparse(value) in ("io.BytesIO()", "io.StringIO()", "BytesIO()", "StringIO()"):
                    found.add(ast.unparse(name))
    return found


def writes(text):
    """What a file writes in place: the names of calls, of `open` with its mode."""
    tree = ast.parse(text)
    memory = in_memory(tree)
    found = set()
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        method = isinstance(node.func, ast.Attribute)
        name = ast.unparse(node.func).rpartition(".")[2]
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if name in ("open", "fdopen"):
            texts = [each.value for each in given[not method :] if isinstance(each, ast.Constant)]
            modes = [text for text in texts if isinstance(text, str) and set(text) <= set("rwaxbt+")]
            found |= {f"open {mode}" for mode in modes if set(mode) & set("wax+")}
        elif method and name in WRITERS and given and not memory & {ast.unparse(each) for each in given}:
            found.add(name)
    return found


FILES = [path for folder in ("mdebench", "protocols") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("name", sorted(path.relative_to(ROOT).as_posix() for path in FILES))
def test_nothing_is_written_in_place(name):
    assert writes((ROOT / name).read_text()) <= HONEST.get(name, set())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Path("a").open("w")', {"open w"}),
        ('open("a", mode="ab")', {"open ab"}),
        ('open("a")', set()),
        ("frame.to_csv(path)", {"to_csv"}),
        ("picture.save(path)", {"save"}),
        ('data = io.BytesIO()\npicture.save(data, "PNG")', set()),
        ("with files.writing(path) as file:\n    np.savez(file, a=a)", set()),
        ("with path.open() as file:\n    np.savez(file, a=a)", {"savez"}),
    ],
)
def test_a_write_in_place_would_be_found(text, found):
    assert writes(text) == found
