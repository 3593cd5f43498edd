"""What a bench says, and the rows that `--save` keeps of it: `results/speed/<bench>.jsonl`, one JSON line per number.

A row of speed belongs to a machine, not to a run or a data set, so these are kept apart from the rows of protocols;
`short_table` and `speed_table` are views of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from rich.console import Console
from tabulate import tabulate

from mdebench.bench.clock import Measured
from mdebench.compute.machine import default_device
from mdebench.files import json_lines, read_bytes, read_lines, write_atomically
from mdebench.home import Home
from mdebench.results.provenance import provenance


@dataclass(frozen=True)
class Record:
    """What one bench found about one `case` ("rec at scale small, …"), with the settings that define the case."""

    bench: str
    case: str
    settings: Mapping[str, Any]
    measured: Sequence[Measured]


def say(record: Record, console: Console) -> None:
    """The numbers of a record, a line each, with the quartiles over the rounds."""
    console.print(f"{record.case}: {machine()}")
    lines = [(m.metric, _number(m.value), m.unit, _spread(m)) for m in record.measured]
    console.print(tabulate(lines, tablefmt="plain", disable_numparse=True, colalign=("left", "right")))


def machine() -> str:
    """The device in words, its threads where it is a CPU, and torch's version."""
    if default_device().type == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def save(home: Home, record: Record) -> Path:
    """Append the numbers of a record as rows; returns the file. UserError when it cannot be written."""
    path = home.speed / f"{record.bench}.jsonl"
    facts = {"bench": record.bench, "case": record.case, "settings": dict(record.settings), "machine": machine()}
    facts |= {"device": default_device().type, **provenance()}
    before = read_bytes(path) if path.exists() else b""
    write_atomically(
        path, before + b"".join(json_lines(token_hex(8), [{**facts, **asdict(m)} for m in record.measured]))
    )
    return path


def speed_rows(home: Home) -> list[dict[str, Any]]:
    """All rows of speed, the newest of each machine, bench, case and metric."""
    newest: dict[tuple[str, ...], dict[str, Any]] = {}
    for path in sorted((home.speed).glob("*.jsonl")):
        for _, row in read_lines(path, "delete the lines of its group and measure again", _checked):
            newest[row["machine"], row["bench"], row["case"], row["metric"]] = row
    return list(newest.values())


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """A row of speed; ValueError where it is none."""
    texts, numbers = ("machine", "bench", "case", "metric"), ("value", "low", "high", "n")
    if wrong := [name for name in texts if not isinstance(row.get(name), str)]:
        raise ValueError(f"{wrong[0]} is {row.get(wrong[0])!r}, not a text")
    if wrong := [name for name in numbers if not isinstance(row.get(name), int | float | None)]:
        raise ValueError(f"{wrong[0]} is {row.get(wrong[0])!r}, not a number")
    return row


# A bench in the short table: its name there, the metric of what it takes, that of a comparison, with whom, and that of
# the share of the machine's peak.
HEADLINES = {
    "step": ("an update of {}", "ours", "times as fast", "as fast as the plain one", "of the peak of conv bf16"),
    "transfer": ("{}", "features kept", "times as fast, features kept", "as fast as encoding every batch", ""),
    "metrics": ("pSNR and SSIM of {}", "pSNR and SSIM, ours", "times as fast", "as fast as torchmetrics", ""),
    "data": ("packing {}", "packing", "packing, of what decoding alone allows", "of decoding alone", ""),
}


def short_table(home: Home) -> str:
    """The main rows of speed as a Markdown table, a line for each case, by machine; "" where there are none."""
    cases: dict[tuple[str, str, str], dict[str, Measured]] = {}
    for row in speed_rows(home):
        if row["bench"] in HEADLINES:
            cases.setdefault((row["machine"], row["bench"], row["case"]), {})[row["metric"]] = _measured(row)
    headers, parts = ("", "", "compared with", "of the peak of bf16 convolutions"), []
    for where in dict.fromkeys(machine for machine, _, _ in cases):
        lines = [_headline(bench, case, found) for (at, bench, case), found in cases.items() if at == where]
        parts.append(f"{where}:\n\n{_markdown(lines, headers)}")
    return "\n\n".join(parts)


def _headline(bench: str, case: str, found: Mapping[str, Measured]) -> tuple[str, ...]:
    """A line of the short table; a cell is empty where its metric was not measured."""
    name, took, ratio, whom, share = HEADLINES[bench]
    cells = [_told(found[metric]) if metric in found else "" for metric in (took, ratio, share)]
    return name.format(case), cells[0], f"{cells[1]} {whom}" if cells[1] else "", cells[2]


def speed_table(home: Home) -> str:
    """All rows of speed as a Markdown table, by machine; "" where there are none."""
    parts = []
    rows = speed_rows(home)
    for where in dict.fromkeys(row["machine"] for row in rows):
        lines = [
            (row["case"], row["metric"], f"{_number(row['value'])} {row['unit']}", _spread(_measured(row)))
            for row in rows
            if row["machine"] == where
        ]
        headers = ("case", "", "median", "quartiles")
        parts.append(f"{where}:\n\n{_markdown(_told_once(lines), headers)}")
    return "\n\n".join(parts)


def _told_once(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The lines, a case named on its first one only."""
    cases = [""] + [line[0] for line in lines]
    return [("" if line[0] == before else line[0], *line[1:]) for line, before in zip(lines, cases)]


def _measured(row: Mapping[str, Any]) -> Measured:
    return Measured(**{key: row[key] for key in ("metric", "unit", "value", "low", "high", "n")})


def _told(m: Measured) -> str:
    """A number with its unit and quartiles: "174 ms (170 to 175)"."""
    return f"{_number(m.value)} {m.unit}" + (f" ({_spread(m)})" if m.n > 1 else "")


def _markdown(lines: Sequence[tuple[str, ...]], headers: Sequence[str]) -> str:
    return tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True)


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(m: Measured) -> str:
    return f"{_number(m.low)} to {_number(m.high)}" if m.n > 1 else ""


def _processor() -> str:
    """What the CPU calls itself."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "CPU"
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return names[0] if names else "CPU"
