"""All readouts of a code side by side, with the one that is the verdict on it (see `results.verdict`)."""

from dataclasses import replace

from mdebench.results.cells import MISSING, Block, Cell, Line, Table, column
from mdebench.results.displays import PIXELS
from mdebench.results.lines import lines_of
from mdebench.results.verdict import CODE, IN_WORDS, READOUTS, verdict_of
from mdebench.tables.view import View

MARK = "●"
METRICS = {"attribute_error": "Attributes", "landmark_distance": "Landmarks"}


def readouts_table(view: View) -> Table | None:
    """A block for each metric that is read by several readouts; None where each is read by the code alone."""
    places = {place for of in READOUTS.values() for place in of.values()}
    rows = view.rows[view.rows["metric"].isin(METRICS) & (view.rows["split"] == "test")]
    rows = rows[rows.set_index(["protocol", "setting"]).index.isin(places)]
    if not set(rows["protocol"]) - {protocol for protocol, _ in READOUTS[CODE].values()}:
        return None
    settings = {str(line): dict(own["settings"].iloc[0]) for line, own in rows.groupby("line")}
    blocks = [_block(view, metric, lines_of(rows), settings) for metric in METRICS if (rows["metric"] == metric).any()]
    return view.table(
        "readouts", "Readouts: what a code is found to know, and the verdict", rows, blocks, PIXELS, [IN_WORDS]
    )


def _block(view: View, metric: str, lines: list[Line], settings: dict[str, dict[str, object]]) -> Block:
    """The verdict first, then every readout that has a number; what they are compared with is pixels' own verdict."""
    columns = {}
    for readout, of in READOUTS.items():
        protocol, setting = of[metric]
        if any(view.index.get((line.name, protocol, setting, metric, "test")) for line in lines):
            columns[readout] = column(view.display(protocol).metric(metric), readout, protocol, setting)
    found = {line: {readout: view.cell(line, each) for readout, each in columns.items()} for line in lines}
    chosen = {line: verdict_of(line.family, settings[line.name]) for line in lines}
    first = replace(next(iter(columns.values())), title="Verdict", protocol="verdict", setting="")
    base = next((line for line in lines if line.method == PIXELS.method), None)
    against = found[base].get(CODE, Cell()) if base else Cell()
    cells = [
        (
            found[line].get(chosen[line], Cell()),
            *(_marked(cell, readout == chosen[line]) for readout, cell in own.items()),
        )
        for line, own in found.items()
    ]
    shown = (first, *columns.values())
    return Block(METRICS[metric], shown, tuple(lines), tuple(cells), (against,) * len(shown), base)


def _marked(cell: Cell, verdict: bool) -> Cell:
    return replace(cell, text=f"{cell.text} {MARK}") if verdict and cell.text != MISSING else cell
