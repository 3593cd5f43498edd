"""Build the wheel, put it alone into a folder, and do the whole path from elsewhere, as a stranger would.

Run by ``make wheel``; not collected by pytest, because building takes longer than a test should.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    "data prepare toyfaces --size 32 --count 300",
    "pretrain rec --S 0.1 --scale tiny --pack toyfaces32 --updates 4",
    "transfer attributes --set updates=50",
    "transfer landmarks --set updates=50",
    "occlusion --preset both_eyes",
    "tables",
    "runs",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", scratch, str(ROOT)], check=True)
        (wheel,) = folder.glob("mdebench-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        for needed in ("mdebench/baselines/random.py", "mdebench/protocols/attributes.py", "mdebench/paper/table1.csv"):
            assert needed in names, f"{needed} is missing from {wheel.name}"
        top = {name.split("/")[0] for name in names if ".dist-info" not in name}
        assert top == {"mdebench"}, f"the wheel claims other top-level names: {top}"
        subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
        home = folder / "home"
        home.mkdir()
        environment = os.environ | {"PYTHONPATH": str(folder / "site")}
        where = [sys.executable, "-c", "import mdebench.baselines.random as m; print(m.__file__)"]
        found = subprocess.run(where, cwd=home, env=environment, check=True, capture_output=True, text=True).stdout
        assert str(folder / "site") in found, f"the checkout was imported, not the wheel: {found}"
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", "mdebench", *command.split()], cwd=home, env=environment, check=True)
        tables = sorted(p.name for p in (home.tables).iterdir())
        assert any(name.startswith("table1") for name in tables), tables
    sys.stdout.write(f"wheel check passed: {wheel.name}\n")


if __name__ == "__main__":
    main()
