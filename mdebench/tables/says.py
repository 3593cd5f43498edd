"""What all tables say, in short: a page of its own beside them, and a block in a README, both made from rows alone."""

from collections.abc import Sequence

from mdebench.results.cells import Table

BEGIN = "<!-- what the tables say: made from rows -->\n"
END = "<!-- end of what the tables say -->"
FACTS = ("Data: ", "Few people: ", "Seeds: ")  # footnotes of the first table that a reader of sentences must know
SHORT = 2  # sentences of a table in a README


def page(tables: Sequence[Table]) -> str:
    """`results/README.md`: every table with a link and all that it says in short."""
    parts = ["# What the tables say", "Made from rows by `mdebench tables`; nothing here is typed by hand."]
    for where in dict.fromkeys((table.dataset, table.scale) for table in tables):
        here = [table for table in tables if (table.dataset, table.scale) == where]
        entries = [_entry(table, "tables", [sentence for _, sentence in table.summary]) for table in here]
        parts += [f"## {where[0]} · {where[1]}", "\n".join(entries)]
    return "\n\n".join(parts) + "\n"


def block(tables: Sequence[Table]) -> str:
    """The marked block of a README: of the data set of most tables, of each kind of table the one with most lines, in
    the sentences that are about most of its columns."""
    places = [(table.dataset, table.scale) for table in tables if table.summary]
    most = max(dict.fromkeys(places), key=places.count)
    kinds: dict[str, Table] = {}
    for table in tables:
        kind = table.title.partition(":")[0]
        if (table.dataset, table.scale) == most and table.summary:
            kinds[kind] = max(kinds.get(kind, table), table, key=lambda each: len(each.blocks[0].lines))
    first = next(iter(kinds.values()))
    lines = [note for note in first.footnotes if note.startswith(FACTS)] + [""]
    for table in kinds.values():
        told = sorted(table.summary, key=lambda sentence: -sentence[0])[:SHORT]
        lines.append(_entry(table, "results/tables", [sentence for _, sentence in told]))
    more = "All tables, also of the other data sets, and all that they say: [results/README.md](results/README.md)."
    return "\n".join([BEGIN.rstrip("\n"), *lines, "", more, END])


def renewed(readme: str, tables: Sequence[Table]) -> str:
    """A README with its marked block made anew; as it is where it has none."""
    if BEGIN not in readme or not any(table.summary for table in tables):
        return readme
    before, _, rest = readme.partition(BEGIN)
    return before + block(tables) + rest.partition(END)[2]


def _entry(table: Table, folder: str, sentences: Sequence[str]) -> str:
    title = table.title.removesuffix(f" · {table.dataset} · {table.scale}")
    said = "".join(f"\n  - {sentence}" for sentence in sentences)
    return f"- [{title}]({folder}/{table.stem}.md){said}"
