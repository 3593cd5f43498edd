"""What all tables say, in short: a page of its own beside them, and a block in a README, both made from rows alone."""

from collections.abc import Iterable, Sequence

from mdebench.results.cells import Table
from mdebench.results.spelled import markdown
from mdebench.words import words

BEGIN = "<!-- what the tables say: made from rows -->\n"
END = "<!-- end of what the tables say -->"
FACTS = ("Data: ", "Few people: ", "Seeds: ")  # footnotes of the first table that a reader of sentences must know
SHORT = 3  # sentences of a table in a README


def page(tables: Sequence[Table]) -> str:
    """`results/README.md`: every table with a link and all that it says in short."""
    parts = ["# What the tables say", "Made from rows by `mdebench tables`; nothing here is typed by hand."]
    for where in dict.fromkeys((table.dataset, table.scale) for table in tables):
        here = [table for table in tables if (table.dataset, table.scale) == where]
        entries = [_entry(table, "tables", [sentence for _, sentence in table.summary]) for table in here]
        parts += [f"## {markdown(' · '.join(where))}", "\n".join([*_trained_again(here), *entries])]
    return "\n\n".join(parts) + "\n"


def block(tables: Sequence[Table]) -> str:
    """The marked block of a README: of the data set of most tables, of each kind of table the one with most lines, in
    a few sentences."""
    places = [(table.dataset, table.scale) for table in tables if table.summary]
    most = max(dict.fromkeys(places), key=places.count)
    kinds: dict[str, Table] = {}
    for table in tables:
        kind = table.title.partition(":")[0]
        if (table.dataset, table.scale) == most and table.summary:
            kinds[kind] = max(kinds.get(kind, table), table, key=lambda each: len(each.blocks[0].lines))
    first = next(iter(kinds.values()))
    lines = [
        *(markdown(note) for note in first.footnotes if note.startswith(FACTS)),
        *_trained_again(kinds.values()),
        "",
    ]
    for table in kinds.values():
        lines.append(_entry(table, "results/tables", _chosen(table)))
    more = "All tables, also of the other data sets, and all that they say: [results/README.md](results/README.md)."
    return "\n".join([BEGIN.rstrip("\n"), *lines, "", more, END])


def _chosen(table: Table) -> list[str]:
    """For each thing that is measured the sentence about most columns, of equals the last: probes stand after heads."""
    found: dict[str, tuple[int, str]] = {}
    for columns, sentence in table.summary:
        what = sentence.partition(",")[0]
        if columns >= found.get(what, (0, ""))[0]:
            found[what] = columns, sentence
    return [sentence for _, sentence in found.values()][:SHORT]


def renewed(readme: str, tables: Sequence[Table]) -> str:
    """A README with its marked block made anew; as it is where it has none."""
    if BEGIN not in readme or not any(table.summary for table in tables):
        return readme
    before, _, rest = readme.partition(BEGIN)
    return before + block(tables) + rest.partition(END)[2]


def _trained_again(tables: Iterable[Table]) -> list[str]:
    """A sentence where tables show one run with different weights, as it was trained again in between."""
    weights: dict[str, dict[str, set[str]]] = {}
    for table in tables:
        for row in table.rows:
            weights.setdefault(row["run"], {}).setdefault(row["weights_hash"], set()).add(row["protocol"])
    several = {run: by for run, by in weights.items() if len(by) > 1}
    if not several:
        return []
    fewest = sorted({protocol for by in several.values() for protocol in min(by.values(), key=len)})
    return [
        f"Trained again, so that some tables show other weights than others ({words(fewest)} beside the rest): "
        f"{words(map(markdown, sorted(several)))}."
    ]


def _entry(table: Table, folder: str, sentences: Sequence[str]) -> str:
    title = table.title.removesuffix(f" · {table.dataset} · {table.scale}")
    said = "".join(f"\n  - {markdown(sentence)}" for sentence in sentences)
    return f"- [{markdown(title)}]({folder}/{table.stem}.md){said}"
