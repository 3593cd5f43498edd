"""The demo: the whole path at scale ``tiny`` on the embedded faces, in a folder of its own, ending in a page."""

from pathlib import Path

from rich.console import Console

from mdebench import catalog, suite
from mdebench.data.pack import open_pack
from mdebench.report import write_report
from mdebench.settings import SCALES
from mdebench.tables import write_sheets, write_tables

METHODS = ("random", "inpainting", "colorization1", "re", "rec")
PROTOCOLS = ("attributes", "landmarks", "occlusion")


def run_demo(home: Path, console: Console) -> None:
    """Pretrain five methods, measure them by three protocols, write tables and a page; print the page's path last.

    Everything lands in ``home``; run again, it does what is missing.
    """
    path = home / "packs" / "toyfaces64"
    if not path.exists():
        faces = SCALES["tiny"].faces  # enough for a probe on 256 numbers, drawn in seconds
        console.print(f"drawing {faces:,} faces")
        suite.draw_faces(home, 64, console, count=faces)
    pack = open_pack(path)
    for name in METHODS:
        suite.train_run(home, suite.make_recipe(name, pack, "tiny", 0, {}), pack, console)
    runs = suite.finished_runs(home, pack.name)
    for name in PROTOCOLS:
        need = catalog.protocol(name).NEEDS
        suite.measure(home, name, suite.with_references(home, runs, pack, need, console), pack, {}, console)
    versions = {name: catalog.protocol(name).VERSION for name in PROTOCOLS}
    write_tables(home, home / "results" / "tables", versions)
    write_sheets(home, home / "results" / "sheets")
    page = write_report(home, home / "index.html", versions, title="mdebench: the demo")
    console.print(f"look at {page.resolve()}")
