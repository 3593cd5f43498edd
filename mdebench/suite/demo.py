"""The demo: the whole path at scale ``tiny`` on the embedded faces, in a folder of its own, ending in a page."""

from rich.console import Console

from mdebench import catalog
from mdebench.data import finding
from mdebench.data.pack import open_pack
from mdebench.evaluation import measuring
from mdebench.evaluation.displays import displays as gather_displays
from mdebench.figures.contact_sheets import write_sheets
from mdebench.home import Home
from mdebench.report.page import write_report
from mdebench.settings import SCALES
from mdebench.suite import wanted
from mdebench.tables.write import write_tables
from mdebench.training import recipes

METHODS = ("random", "inpainting", "colorization1", "re", "rec")
PROTOCOLS = ("attributes", "landmarks", "occlusion")


def run_demo(home: Home, console: Console) -> None:
    """Pretrain five methods, measure them by three protocols, write tables and a page; print the page's path last.

    Everything lands in ``home``; run again, it does what is missing.
    """
    path = home.packs / "toyfaces64"
    if not path.exists():
        faces = SCALES["tiny"].faces  # enough for a probe on 256 numbers, drawn in seconds
        console.print(f"drawing {faces:,} faces")
        finding.draw_faces(home, 64, console, count=faces)
    pack = open_pack(path)
    for name in METHODS:
        recipes.train_run(home, recipes.make_recipe(name, pack, "tiny", 0, {}), pack, console)
    runs = wanted.finished_runs(home, pack.name)
    for name in PROTOCOLS:
        need = catalog.protocol(name).NEEDS
        measuring.measure(home, name, wanted.with_references(home, runs, pack, need, console), pack, {}, console)
    displays = gather_displays(home)
    write_tables(home, home.tables, displays)
    write_sheets(home, home.sheets)
    page = write_report(home, home.folder / "index.html", displays, title="mdebench: the demo")
    console.print(f"look at {page.resolve()}")
