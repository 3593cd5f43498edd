"""How each line of a table was made: what differs from line to line stands in a block, what all share in a sentence."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from mdebench.results.cells import COSTS, MISSING, Block, Cell, Column, cost_cell
from mdebench.results.lines import lines_of, short
from mdebench.words import words

TITLE = "How each line was made"
NOTES = 3  # of its own that a line has in the block; where one has more, they are of single numbers


class Fact(NamedTuple):
    """What is to be said of the lines under one title: a text for each, or one sentence where all share it."""

    title: str
    field: str  # of the rows
    texts: Mapping[str, str]

    @property
    def shared(self) -> str:
        """The text of all lines that have one; "" where they differ."""
        found = set(self.texts.values()) - {MISSING}
        return found.pop() if len(found) == 1 else ""


def how_made(rows: pd.DataFrame) -> tuple[Block, list[str]]:
    """The block of a table's `rows` (a `line` column names each row's line), and sentences on what its lines share."""
    notes, told = _notes(rows)
    facts = [*_training(rows), *_measuring(rows), *notes]
    lines, runs = lines_of(rows), {line: part.drop_duplicates("run") for line, part in rows.groupby("line")}
    records = {line: part.to_dict("records") for line, part in runs.items()}
    columns = [Column(title, "", "", field, unit) for field, (title, unit, _) in COSTS.items()]
    cells = [[cost_cell(records[line.name], field) for line in lines] for field in COSTS]
    for fact in facts:
        if not fact.shared:
            columns.append(Column(fact.title, "", "", fact.field))
            cells.append([_text(fact.texts.get(line.name, MISSING), records[line.name]) for line in lines])
    filled = [k for k, column in enumerate(cells) if any(cell.source for cell in column)]
    block = Block(
        TITLE, tuple(columns[k] for k in filled), tuple(lines), tuple(zip(*(cells[k] for k in filled), strict=True))
    )
    return block, [f"{fact.title}: {fact.shared}." for fact in facts if fact.shared] + told


def who(lines: Iterable[str], every: Iterable[str]) -> str:
    """These lines in a sentence: by name where they are few, else how many of them; the block says which."""
    few, total = sorted(set(lines)), len(set(every))
    if len(few) == total:
        return f"all {total} lines" if total > 1 else few[0]
    return words(few) if len(few) <= NOTES else f"{len(few)} lines (which, says “{TITLE}”)"


def _training(rows: pd.DataFrame) -> list[Fact]:
    trained = rows.assign(
        losses=rows["losses"].where(rows["losses"] != "", rows["settings"].map(lambda own: own.get("losses", ""))),
        batch=rows["batch"].where(rows["updates"] > 0, 0),
        precision=rows["precision"].where(rows["updates"] > 0, ""),
    )
    return [
        _fact(trained, "Loss set", "losses"),
        _fact(trained, "Perceptual network", "perceptual", lambda text: text or "none"),
        _fact(trained, "Batch", "batch"),
        _fact(trained, "Precision", "precision"),
        _fact(trained, "Seeds", "seed", str),
    ]


def _measuring(rows: pd.DataFrame) -> list[Fact]:
    """By which code; and by which version of a protocol, by whom and on what, where there were several."""
    code = rows["git"].str[:10] + rows["dirty"].map({True: " with uncommitted changes", False: ""})
    version = rows["protocol"] + " version " + rows["protocol_version"].astype(str)
    facts = [_fact(rows.assign(git=code), "Code", "git")]
    if (rows.groupby("protocol")["protocol_version"].nunique() > 1).any():
        facts.append(_fact(rows.assign(protocol_version=version), "Measured by", "protocol_version"))
    if rows.loc[rows["judge"] != "", "judge"].nunique() > 1:
        facts.append(_fact(rows[rows["judge"] != ""], "Judge", "judge", lambda name: short(name).partition(" ")[2]))
    if rows["pack_hash"].nunique() > 1:
        facts.append(_fact(rows, "Pack", "pack_hash", lambda digest: str(digest)[:8]))
    return facts


def _fact(rows: pd.DataFrame, title: str, field: str, show: Callable[[Any], str] = lambda x: str(x or MISSING)) -> Fact:
    found = rows.groupby("line")[field].unique()
    return Fact(title, field, {str(line): ", ".join(map(show, sorted(values))) for line, values in found.items()})


def _notes(rows: pd.DataFrame) -> tuple[list[Fact], list[str]]:
    """The rows' own notes by protocol: what every line of a setting has is a sentence, the rest a fact of lines."""
    facts, sentences = [], []
    for protocol, part in rows.groupby("protocol"):
        parts = part.assign(note=part["note"].str.split("; ")).explode("note")
        parts = parts[parts["note"] != ""]
        every = parts["setting"].map(part.groupby("setting")["line"].nunique())
        shared = parts.groupby(["note", "setting"])["line"].transform("nunique") == every
        sentences += _sentences(str(protocol), parts[shared], part["setting"].nunique())
        own = {str(line): list(notes) for line, notes in parts[~shared].groupby("line")["note"].unique().items()}
        if any(len(notes) > NOTES for notes in own.values()):
            example = next(iter(own.values()))[0]
            sentences.append(f"On {protocol}: notes on single numbers, such as “{example}”, stand in the table's CSV.")
        elif own:
            facts.append(Fact(f"On {protocol}", "note", {line: "; ".join(notes) for line, notes in own.items()}))
    return facts, sentences


def _sentences(protocol: str, parts: pd.DataFrame, settings: int) -> list[str]:
    """A sentence for the notes that stand in every setting, and one for those of each other set of settings."""
    places: dict[tuple[str, ...], list[str]] = {}
    for note, found in parts.groupby("note", sort=False)["setting"].unique().items():
        places.setdefault(() if len(found) == settings else tuple(found), []).append(str(note))
    where = {place: f", {words(setting.replace('_', ' ') for setting in place)}" if place else "" for place in places}
    return [f"On {protocol}{where[place]}: {'; '.join(notes)}." for place, notes in sorted(places.items())]


def _text(text: str, runs: Iterable[Mapping[Any, Any]]) -> Cell:
    return Cell(text=text, rows=tuple(runs), source="rows") if text != MISSING else Cell()
