"""The map of the rooms in CONTRIBUTING.md, made from what each room says of itself; run to write it there anew."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "mdebench"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- rooms: made by tests/rooms.py -->\n", "<!-- end of rooms -->"
ORDER = ("cli", "suite", "bench", "report", "figures", "tables", "results", "evaluation", "training", "methods", "data")


def says(path: Path) -> list[str]:
    """The paragraphs of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return [" ".join(paragraph.split()).replace("``", "`") for paragraph in text.split("\n\n")]


def rooms_map() -> str:
    """A line for each room, from the command line down: what belongs there, and what others may import from it."""
    places = {name: place for place, name in enumerate(ORDER)}
    rooms = sorted((path.parent for path in CORE.glob("*/__init__.py")), key=lambda room: places.get(room.name, 99))
    lines = ["| room | what belongs there | its files | what others may import from it |", "|---|---|---|---|"]
    for room in rooms:
        what, who, *_ = [*says(room / "__init__.py"), ""]
        who = who.removeprefix("Others may import ").removeprefix("Others import ")
        lines.append(f"| `{room.name}/` | {what} | {_files(room)} | {who} |")
    lines += ["", "At the root stands what every room stands on:", ""]
    lines += [f"- `{path.name}`: {says(path)[0]}" for path in sorted(CORE.glob("*.py"))]
    return "\n".join(lines) + "\n"


def _files(room: Path) -> str:
    """The names of a room's files, and of those in its folders."""
    here = [path.stem for path in sorted(room.glob("*.py")) if path.stem != "__init__"]
    within = [f"{path.name}/ ({_files(path)})" for path in sorted(room.iterdir()) if (path / "__init__.py").is_file()]
    return ", ".join(here + within)


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + rooms_map() + END + rest.partition(END)[2])
