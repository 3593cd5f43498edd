"""What a method, a protocol or a run is, in lines for a person: settings, their defaults, and where these come from."""

import ast
import glob
import inspect
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from tabulate import tabulate

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.evaluation.displays import display_of
from mdebench.home import Home
from mdebench.runs import Run
from mdebench.settings import SCALES, choose
from mdebench.suite.inventory.upkeep import size_of
from mdebench.variants import ALIASES


def show_text(home: Home, name: str) -> str:
    """What is known of a run, method or protocol of that name; UserError with near names when there is none."""
    run = home.run(Path(name).name)
    if run.info and not catalog.is_path(name):
        return _run(home, run)
    if catalog.is_path(name):
        if (Path(name) / "run.json").is_file():
            return _run(home, Run(Path(name)))
        code = catalog.either(name)
        return _method(code) if code.kind == "method" else _protocol(code)
    family = name.partition(":")[0]
    methods, protocols = catalog.methods(), catalog.protocols()
    if ALIASES.get(family, family) in methods:
        return _method(catalog.method(name))
    if name in protocols:
        return _protocol(protocols[name])
    known = {**methods, **protocols, **{found.folder.name: found for found in home.list_runs()}}
    choose(name, known, "method, protocol or run")
    raise AssertionError  # choose has raised


def _method(entry: catalog.Code) -> str:
    module = entry.load()
    cls = module.Method
    can = [word for word in catalog.NEEDS if hasattr(cls, word)]
    facts = [
        ("method", entry.name),
        ("from", entry.source or _file(module)),
        ("paper", cls.PAPER or "–"),
        ("can", ", ".join(can)),
    ]
    table = [
        (name, *(_told(asdict(entry.settings(scale, {}))[name]) for scale in SCALES.values()), comment)
        for name, comment in _comments(module).items()
    ]
    headers = ("setting", *SCALES, "source")
    return _page(module, facts, tabulate(table, headers=headers, disable_numparse=True))


def _protocol(code: catalog.Code) -> str:
    module = code.load()
    display = display_of(code)
    facts = [
        ("protocol", code.name),
        ("from", code.source or _file(module)),
        ("version", str(module.VERSION)),
        ("needs", f"a method that can {module.NEEDS}"),
    ]
    metrics = [(m.name, m.unit or "–", f"{m.better} is better" if m.better else "–") for m in display.metrics]
    shown = tabulate(metrics, headers=("metric", "unit", "which way"), disable_numparse=True) if metrics else ""
    defaults = {f.name: f.default for f in fields(module.Settings)}
    table = [(name, _told(defaults[name]), comment) for name, comment in _comments(module).items()]
    settings = tabulate(table, headers=("setting", "default", "source"), disable_numparse=True)
    return _page(module, facts, *filter(None, (settings, shown)))


def _run(home: Home, run: Run) -> str:
    info = run.info
    recipe = info.get("recipe", {})
    facts = [
        ("run", run.folder.name),
        ("folder", f"{run.folder} ({size_of(run.folder)})"),
        ("method", info["method"] + (f" ({info['source']})" if info.get("source") else "")),
        ("status", f"{info['status']}, {info['step']:,} of {info['updates']:,} updates of {info['batch']} images"),
        ("pack", info["pack_note"]),
        *((name, str(info[name])) for name in ("scale", "seed", "precision", "losses", "perceptual") if name in info),
        ("took", f"{info.get('seconds', 0):,.0f} s, {info.get('gflop', 0) / 1000:,.1f} TFLOP, on {info['device']}"),
        ("code", f"{info['git'][:10]}{' with uncommitted changes' if info['dirty'] else ''}"),
        *((("weights", info["weights_hash"]),) if "weights_hash" in info else ()),
    ]
    changed = recipe.get("overrides", {})
    table = [
        (name, _told(value), "changed against the scale" if name in changed or name == "S" else "")
        for name, value in info["settings"].items()
    ]
    settings = tabulate(table, headers=("setting", "value", ""), disable_numparse=True)
    rows = [
        (path.parent.name, f"{len(path.read_bytes().splitlines()):,}")
        for path in sorted(home.rows.glob(f"*/{glob.escape(run.folder.name)}.jsonl"))
    ]
    measured = tabulate(rows, headers=("measured by", "rows"), disable_numparse=True) if rows else "not measured yet"
    return "\n\n".join([tabulate(facts, tablefmt="plain", disable_numparse=True), settings, measured])


def _page(module: ModuleType, facts: list[tuple[str, str]], *tables: str) -> str:
    about = inspect.cleandoc(module.__doc__ or "")
    return "\n\n".join([tabulate(facts, tablefmt="plain", disable_numparse=True), about, *tables])


def _file(module: ModuleType) -> str:
    return "/".join(Path(str(module.__file__)).parts[-2:])


def _comments(module: ModuleType) -> Mapping[str, str]:
    """Each setting → what stands beside its default in the file that defines it: where the value is from."""
    found: dict[str, str] = {}
    for cls in reversed(module.Settings.__mro__[:-1]):
        try:
            lines, _ = inspect.getsourcelines(cls)
            tree = ast.parse(inspect.cleandoc("".join(lines)))
        except (OSError, TypeError, SyntaxError) as error:
            raise UserError(f"the source of {cls.__name__} cannot be read ({error})") from error
        body = tree.body[0]
        assert isinstance(body, ast.ClassDef)
        text = inspect.cleandoc("".join(lines)).splitlines()
        for node in body.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                beside = text[node.end_lineno - 1][node.end_col_offset :] if node.end_lineno else ""
                found[node.target.id] = beside.partition("#")[2].strip()
    return {f.name: found.get(f.name, "") for f in fields(module.Settings)}


def _told(value: Any) -> str:
    return "none" if value is None else ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
