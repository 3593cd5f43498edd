"""What all tables say, in short: a page of its own beside them, and a block in a README, both made from rows alone."""

from collections.abc import Sequence

from mdebench.results.cells import Table

BEGIN = "<!-- what the tables say: made from rows -->\n"
END = "<!-- end of what the tables say -->"
SHORT = 4  # sentences of a table in a README


def page(tables: Sequence[Table]) -> str:
    """`results/README.md`: every table with a link and all that it says in short."""
    parts = ["# What the tables say", "Made from rows by `mdebench tables`; nothing here is typed by hand."]
    for where in dict.fromkeys((table.dataset, table.scale) for table in tables):
        here = [table for table in tables if (table.dataset, table.scale) == where]
        parts += [f"## {where[0]} · {where[1]}", "\n".join(_entry(table, "tables", table.summary) for table in here)]
    return "\n\n".join(parts) + "\n"


def block(tables: Sequence[Table]) -> str:
    """The marked block of a README: of the data set of most tables, a few sentences of each that says something."""
    places = [(table.dataset, table.scale) for table in tables]
    most = max(dict.fromkeys(places), key=places.count)
    here = [table for table in tables if (table.dataset, table.scale) == most and table.summary]
    lines = [_entry(table, "results/tables", table.summary[:SHORT]) for table in here]
    more = "All tables, also of the other data sets, and all that they say: [results/README.md](results/README.md)."
    return "\n".join([BEGIN.rstrip("\n"), *lines, "", more, END])


def renewed(readme: str, tables: Sequence[Table]) -> str:
    """A README with its marked block made anew; as it is where it has none."""
    if BEGIN not in readme:
        return readme
    before, _, rest = readme.partition(BEGIN)
    return before + block(tables) + rest.partition(END)[2]


def _entry(table: Table, folder: str, sentences: Sequence[str]) -> str:
    title = table.title.removesuffix(f" · {table.dataset} · {table.scale}")
    said = "".join(f"\n  - {sentence}" for sentence in sentences)
    return f"- [{title}]({folder}/{table.stem}.md){said}"
