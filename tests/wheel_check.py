"""Build the wheel, put it alone into a folder, and do the whole path from elsewhere, as a stranger would.

With a method and a protocol of the stranger's own, by path and as a tiny distribution with entry points. Run by ``make
wheel``; not collected by pytest, because building takes longer than a test should.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from elsewhere import METHOD, PROTOCOL

ROOT = Path(__file__).resolve().parent.parent
TINY = "--scale tiny --pack toyfaces32 --updates 4"
COMMANDS = [
    "data prepare toyfaces --size 32 --count 300",
    f"pretrain rec --S 0.1 {TINY}",
    f"pretrain ../elsewhere/tint.py {TINY}",
    f"pretrain ../elsewhere/tint.py {TINY} --seed 1 --devices 2",
    f"pretrain hue {TINY}",
    "transfer attributes --set updates=50",
    "transfer landmarks --set updates=50",
    "occlusion --preset both_eyes",
    "measure ../elsewhere/upturned.py --jobs 2",
    "measure turned --jobs 2",
    "check ../elsewhere/tint.py",
    "check turned",
    "tables",
    "figures",
    "report",
    "runs",
    "list --scale tiny",
    "protocols",
    "show hue",
]
DISTRIBUTION = """
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"
[project]
name = "hues"
version = "1.2"
[project.entry-points."mdebench.methods"]
hue = "hues.hue"
[project.entry-points."mdebench.protocols"]
turned = "hues.turned"
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        install = [*pip, "install", "--no-deps", "--target", str(folder / "site")]
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", scratch, str(ROOT)], check=True)
        (wheel,) = folder.glob("mdebench-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        for needed in ("baselines/random.py", "baselines/_patches.py", "protocols/attributes.py", "paper/table1.csv"):
            assert f"mdebench/{needed}" in names, f"{needed} is missing from {wheel.name}"
        for needed in ("py.typed", "report/report.html.j2", "suite/inventory/counts.json"):
            assert f"mdebench/{needed}" in names, f"{needed} is missing from {wheel.name}"
        top = {name.split("/")[0] for name in names if ".dist-info" not in name}
        assert top == {"mdebench"}, f"the wheel claims other top-level names: {top}"
        subprocess.run([*install, str(wheel)], check=True)
        home, elsewhere = folder / "home", folder / "elsewhere"
        home.mkdir()
        elsewhere.mkdir()
        (elsewhere / "tint.py").write_text(METHOD)
        (elsewhere / "upturned.py").write_text(PROTOCOL)
        (folder / "hues" / "hues").mkdir(parents=True)
        (folder / "hues" / "pyproject.toml").write_text(DISTRIBUTION)
        for name, text in (("__init__", ""), ("hue", METHOD), ("turned", PROTOCOL)):
            (folder / "hues" / "hues" / f"{name}.py").write_text(text)
        subprocess.run([*install, str(folder / "hues")], check=True)
        environment = os.environ | {"PYTHONPATH": str(folder / "site")}
        where = [sys.executable, "-c", "import mdebench.baselines.random as m; print(m.__file__)"]
        found = subprocess.run(where, cwd=home, env=environment, check=True, capture_output=True, text=True).stdout
        assert str(folder / "site") in found, f"the checkout was imported, not the wheel: {found}"
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", "mdebench", *command.split()], cwd=home, env=environment, check=True)
        results = home / "results"
        tables = sorted(path.name for path in (results / "tables").iterdir())
        assert any(name.startswith("table1") for name in tables), tables
        for name in ("upturned", "turned"):
            table = (results / "tables" / f"{name}-toyfaces32-tiny.md").read_text()
            assert "| tint" in table and "| hue" in table and "Turned upside down" in table, table
            assert (results / "figures" / f"{name}-toyfaces32-tiny.png").is_file()
            assert f'"protocol": "{name}"' in next((results / "rows" / name).glob("*-hue-*.jsonl")).read_text()
        assert (home / "report.html").read_text().count("Turned upside down") >= 2
    sys.stdout.write(f"wheel check passed: {wheel.name}\n")


if __name__ == "__main__":
    main()
