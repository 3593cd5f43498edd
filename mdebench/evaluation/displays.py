"""How rows are shown: as the files of the protocols say that are here, else as was written beside the rows."""

from contextlib import nullcontext
from dataclasses import replace

from mdebench import catalog
from mdebench.catalog import Code
from mdebench.errors import UserError
from mdebench.files import Rest, read_json, reading
from mdebench.home import Home
from mdebench.results.displays import Display, Displays, from_plain


def display_of(code: Code) -> Display:
    """What a protocol's file says of its rows, with its version, needs and source; UserError when it is no Display."""
    module = code.load()
    said = getattr(module, "DISPLAY", Display())
    if not isinstance(said, Display):
        raise UserError(f"{code.name}: DISPLAY is a {type(said).__name__}, not a Display (from mdebench.evaluation)")
    return replace(said, version=module.VERSION, needs=module.NEEDS, source=code.source)


def displays(home: Home, rest: Rest | None = None) -> Displays:
    """Protocol → how its rows are shown, for every protocol with rows in ``home``; those of nobody show as they can.

    A display.json that is damaged is Damaged, or kept by ``rest``, and its protocol's rows show as they can: which way
    is better stands there, and nowhere else.
    """
    found = {}
    for folder in sorted(path for path in home.rows.glob("*") if path.is_dir()):
        written = folder / "display.json"
        if folder.name in catalog.own_protocols():
            found[folder.name] = display_of(catalog.own_protocols()[folder.name])
        elif written.is_file():
            way_on = f"measure {folder.name} again to write it, or delete it, and its rows show as they can"
            with rest.without() if rest else nullcontext():
                plain = read_json(written, way_on)
                with reading(written, way_on):
                    found[folder.name] = from_plain(plain)
    return found
