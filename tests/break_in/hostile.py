"""Names, archives, files and settings that mean harm: nothing leaves the home, runs, hangs, or comes through raw.

Each case lays something into a stage and gives one or several commands, of which none may end badly. Bombs are small:
what they unpack to is far below what a machine has, and the command is held to less than that.
"""

import io
import os
import pickle
import shutil
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import children
import numpy as np
from children import Limits
from ledger import Verdict
from mutations import Usual, last, mishap
from scene import FINISHED, SET, TIMM, Stage, picture

SECONDS = 20.0
LITTLE = 640 * 2**20  # bytes of memory, where a bomb is tried
BOMB = 2**30  # bytes that it unpacks to, from a few million
EVIL = ("<script>alert(1)</script>", "\x1b[31mred", "a|b", "\u202egnp", "x" * 300, "=1+1", "$\\input{x}$", "a\rb")
RAW = ("<script>alert(1)", "\x1b[31mred", "\u202e", "a\rb")

Commands = list[list[str]]
Case = Callable[[Stage, np.random.Generator], Commands]
PREPARE = ["data", "prepare", "folder", "--size", "16", "--name", "new", "--root"]


def _one(rng: np.random.Generator, choices: "tuple[str, ...] | list[str]") -> str:
    return choices[int(rng.integers(len(choices)))]


def pack_names(stage: Stage, rng: np.random.Generator) -> Commands:
    """A pack that is called like a way out."""
    names = (
        "../evil",
        "a/b",
        str(stage.folder / "evil"),
        "..",
        ".",
        "a\nb",
        "x" * 300,
        "\x1b[31mred",
        "٣",
        "",
        "a\\b",
        "~",
    )
    return [["data", "prepare", "toyfaces", "--size", "16", "--count", "12", "--name", _one(rng, names)]]


def member_names(stage: Stage, rng: np.random.Generator) -> Commands:
    """An archive whose members lead out of it, and a table that asks for them."""
    rows = ["path", "p.png"]
    bad = ("../../pictures/a00.png", str(stage.folder / "pictures" / "a00.png"), "C:\\a.png", "..\\a.png", *EVIL)
    where = stage.folder / "sources" / _one(rng, ("h.zip", "h.tar", "h.tgz"))
    members = [("p.png", picture(rng, "PNG"))] + [(f"{name}.png", picture(rng, "PNG")) for name in bad]
    rows += [f'"{name}.png"' for name in bad if "\r" not in name]
    members.append(("t.csv", "\n".join(rows).encode()))
    if where.suffix == ".zip":
        with zipfile.ZipFile(where, "w") as archive:
            for name, data in members:
                archive.writestr(name, data)
    else:
        with tarfile.open(where, "w:gz" if where.suffix == ".tgz" else "w") as archive:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return [[*PREPARE, str(where)], ["data", "show", "new"], ["data", "verify", "new"]]


def links_in_a_tar(stage: Stage, rng: np.random.Generator) -> Commands:
    """Links, devices and pipes in a tar, under names that the table asks for."""
    where = stage.folder / "sources" / "h.tar"
    with tarfile.open(where, "w") as archive:
        names = ["p.png"]
        for number, kind in enumerate(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
        ):
            info = tarfile.TarInfo(f"l{number}.png")
            info.type, info.linkname = (
                kind,
                _one(rng, ("/etc/passwd", "../../pictures/a00.png", "p.png", f"l{number}.png")),
            )
            info.devmajor, info.devminor = 1, 5
            archive.addfile(info)
            names.append(info.name)
        for name, data in (("p.png", picture(rng, "PNG")), ("t.csv", "\n".join(["path", *names]).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return [[*PREPARE, str(where)]]


def special_files(stage: Stage, rng: np.random.Generator) -> Commands:
    """A folder with a pipe, a socket, links in a circle, links out, and a name that is no UTF-8."""
    root = stage.folder / "sources" / "folder"
    os.mkfifo(root / "pipe.png")
    (root / "circle").symlink_to(root)
    (root / "itself.png").symlink_to(root / "itself.png")
    (root / "out.png").symlink_to("/dev/zero")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.png")).write_bytes(picture(rng, "PNG"))
    with socket.socket(socket.AF_UNIX) as plug, _in(root):
        plug.bind("s.png")
    table = root / "table.csv"
    table.write_text(table.read_text() + "pipe.png,train\nout.png,train\nitself.png,train\ns.png,train\n")
    return [[*PREPARE, str(root)], ["embed", FINISHED, str(root), "--out", "codes.npy"]]


class _in:  # noqa: N801  # a path of a socket has 108 bytes at most
    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        self.before = Path.cwd()
        os.chdir(self.folder)

    def __exit__(self, *error: object) -> None:
        os.chdir(self.before)


def pipes(stage: Stage, rng: np.random.Generator) -> Commands:
    """A pipe, or a device without an end, where a file is expected."""
    home, run = stage.home, f"home/runs/{FINISHED}"
    places = {
        "mask.png": ["complete", "../pictures/a00.png", "--run", FINISHED, "--mask", "../mask.png"],
        "pictures/a00.png": ["complete", "../pictures/a00.png", "--run", FINISHED, "--preset", "mouth"],
        "weights/w.pth": f"{TIMM}../weights/w.pth".split(),
        "weights/w.safetensors": f"{TIMM}../weights/w.safetensors".split(),
        "e.safetensors": ["embed", "../e.safetensors", "../pictures"],
        "sources/folder.zip": [*PREPARE, "../sources/folder.zip"],
        "sources/folder.tar": [*PREPARE, "../sources/folder.tar"],
        "sources/folder/table.csv": [*PREPARE, "../sources/folder"],
        "sources/celeba/list_attr_celeba.txt": ["data", "prepare", "celeba", "--root", "../sources/celeba"],
        "sources/flowers/setid.mat": ["data", "prepare", "flowers", "--root", "../sources/flowers"],
        "sources/mnist/t10k-labels-idx1-ubyte": ["data", "prepare", "mnist", "--root", "../sources/mnist"],
        f"{run}/run.json": ["runs"],
        f"{run}/state.pt": ["export", FINISHED, "--to", "x.safetensors"],
        f"{run}/log.jsonl": ["runs"],
        f"{run}/trained_on.npy": ["measure", "layers", FINISHED, "--set", "width=32"],
        "home/packs/toyfaces16/pack.json": ["data", "list"],
        "home/packs/toyfaces16/split.npy": ["data", "list"],
        "home/packs/toyfaces16/names.json": ["data", "verify", "toyfaces16"],
        f"home/results/rows/landmarks/{FINISHED}.jsonl": ["tables"],
        "home/results/rows/upturned/display.json": ["tables"],
    }
    place = _one(rng, sorted(places))
    file = stage.folder / place
    file.unlink()
    if rng.random() < 0.7:
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    assert home.is_dir()
    return [places[place]]


def bombs(stage: Stage, rng: np.random.Generator) -> Commands:
    """Little that unpacks to much, as a picture in an archive, an archive, a table, a label file, a picture."""
    sources, zeros = stage.folder / "sources", b"\0" * 2**20
    kind = _one(rng, ("zip", "tgz", "gz", "png", "csv"))
    packing = zlib.compressobj(1, wbits=31)
    if kind == "png":
        row = zlib.compressobj(1)
        data = b"".join(row.compress(zeros) for _ in range(BOMB // 2**20)) + row.flush()
        side = 14_000
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (sources / "folder" / "p00.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
        )
        return [[*PREPARE, str(sources / "folder")]]
    if kind == "gz":
        packed = b"".join(packing.compress(zeros) for _ in range(BOMB // 2**20)) + packing.flush()
        (sources / "mnistgz" / "t10k-images-idx3-ubyte.gz").write_bytes(packed)
        return [["data", "prepare", "mnist", "--size", "16", "--name", "new", "--root", str(sources / "mnistgz")]]
    if kind == "tgz":
        info = tarfile.TarInfo("p.png")
        info.size = BOMB
        packed = packing.compress(info.tobuf())
        packed += b"".join(packing.compress(zeros) for _ in range(BOMB // 2**20))
        (sources / "b.tgz").write_bytes(packed + packing.compress(b"\0" * 1024) + packing.flush())
        return [[*PREPARE, str(sources / "b.tgz")]]
    name = "t.csv" if kind == "csv" else "p.png"
    with zipfile.ZipFile(sources / "b.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if kind == "zip":
            archive.writestr("t.csv", "path\np.png\n")
        with archive.open(name, "w") as stream:
            for _ in range(BOMB // 2**20):
                stream.write(zeros)
    return [[*PREPARE, str(sources / "b.zip")]]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class Payload:
    """Runs where somebody unpickles it."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"echo ran > '{self.place}'",)


def payloads(stage: Stage, rng: np.random.Generator) -> Commands:
    """Code in files of weights, states and arrays."""
    code = pickle.dumps({"state_dict": Payload(stage.folder / "canary"), "step": 1, "method": {}})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:  # as torch packs it
        archive.writestr("w/data.pkl", code)
        archive.writestr("w/version", "3\n")
    packed = code if rng.random() < 0.5 else stream.getvalue()
    objects = np.empty(1, object)
    objects[0] = Payload(stage.folder / "canary")
    array = io.BytesIO()
    np.save(array, objects, allow_pickle=True)
    run = stage.home / "runs" / FINISHED
    places: dict[str, tuple[Path, bytes, list[str]]] = {
        "weights": (stage.folder / "weights" / "w.pth", packed, f"{TIMM}../weights/w.pth".split()),
        "state": (run / "state.pt", packed, ["export", FINISHED, "--to", "x.safetensors"]),
        "trained_on": (run / "trained_on.npy", array.getvalue(), ["measure", "layers", FINISHED, "--set", "width=32"]),
        "labels": (stage.home / "packs" / "toyfaces16" / "label.npy", array.getvalue(), ["data", "list"]),
        "mat": (
            stage.folder / "sources" / "flowers" / "setid.mat",
            packed,
            ["data", "prepare", "flowers", "--root", "../sources/flowers"],
        ),
    }
    path, data, words = places[_one(rng, sorted(places))]
    path.write_bytes(data)
    return [words]


def labels(stage: Stage, rng: np.random.Generator) -> Commands:
    """Attributes, classes and people that are called like markup, and all that shows them."""
    root = stage.folder / "sources" / "folder"
    names = [f'"{EVIL[int(place)]}"' for place in rng.choice(len(EVIL) - 1, 3, replace=False)]
    lines = [",".join(["path", "label", *names])]
    for number, path in enumerate(sorted(root.glob("p*"))):
        lines.append(f"{path.name},{names[number % 3]},{number % 2},{(number // 2) % 2},{(number // 3) % 2}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    small = f"--scale tiny --pack new {SET} --updates 1 --set batch=2".split()
    return [
        [*PREPARE, str(root)],
        ["data", "show", "new"],
        ["pretrain", "rec", "--S", "0.1", *small],
        ["transfer", "attributes", "--pack", "new", "--set", "updates=2"],
        ["tables"],
        ["report"],
        ["audit"],
    ]


def run_names(stage: Stage, rng: np.random.Generator) -> Commands:
    """A run's folder that is called like markup or an escape."""
    name = _one(rng, tuple(name for name in EVIL if "/" not in name and len(name) < 200))
    shutil.copytree(stage.home / "runs" / FINISHED, stage.home / "runs" / name)
    return [["runs"], ["show", name], ["measure", "layers", name], ["tables"], ["report"], ["runs", name, "--remove"]]


def settings(stage: Stage, rng: np.random.Generator) -> Commands:
    """Numbers that no network has; they leave no run behind."""
    choices = (
        *(
            "seed=18446744073709551616",
            "seed=-1",
            "seed=٣",
            "S=nan",
            "S=inf",
            "S=-1",
            "S=2",
            "updates=0",
            "updates=1e3",
        ),
        *(
            "updates=٣",
            "width=0",
            "width=-1",
            "width=٣",
            "code=0",
            "code=-1",
            "code=10000000000",
            "batch=0",
            "batch=-4",
        ),
        *(
            "batch=99999999999",
            "width=9999999",
            "losses=<script>",
            "adv_weight=nan",
            "adv_weight=inf",
            "encoder=timm:",
            "seed=9" + "9" * 5000,
        ),
    )
    name, _, value = _one(rng, choices).partition("=")
    words = ["pretrain", "rec", "--scale", "tiny", "--pack", "toyfaces16"]
    words += [f"--{name}", value] if name in ("seed", "S", "updates") else ["--set", f"{name}={value}"]
    if name != "updates":
        words += ["--updates", "1"]
    return [words]


def many_members(stage: Stage, rng: np.random.Generator) -> Commands:
    """A zip of very many members that nobody asked for."""
    where = stage.folder / "sources" / "m.zip"
    with zipfile.ZipFile(where, "w") as archive:
        archive.writestr("t.csv", "path\np.png\n")
        archive.writestr("p.png", picture(rng, "PNG"))
        for number in range(20_000):
            archive.writestr(f"m/{number}.png", b"")
    return [[*PREPARE, str(where)]]


CASES: tuple[Case, ...] = (
    *(pack_names, member_names, links_in_a_tar, special_files, pipes, pipes, bombs, payloads, labels, run_names),
    *(settings, settings, many_members),
)


def attack(number: int, seed: int, scene: Path, room: Path, usual: Usual) -> Verdict:
    """Lay out a case, give its commands, and look at what came of it."""
    case = CASES[number % len(CASES)]
    rng = np.random.default_rng([seed, 6, number])
    stage = Stage(scene, room)
    commands = case(stage, rng)
    kind, before, what = case.__name__.replace("_", " "), _outside(stage), "same"
    runs = {path.name for path in (stage.home / "runs").iterdir()}
    memory = LITTLE if case is bombs else None
    for words in commands:
        told = " ".join(words)[-150:].replace(str(stage.folder), "").replace(FINISHED, "RUN")
        outcome = children.run(children.mdebench(words), stage.home, Limits(SECONDS, memory=memory))

        def verdict(what: str, detail: str = "", told: str = told) -> Verdict:
            return Verdict("hostile", kind, what, ascii(told), number, ascii(detail))

        if failure := mishap(outcome):
            return verdict(*failure)
        if outcome.status not in (0, 1, 2):
            return verdict("unsaid", f"status {outcome.status}: {last(outcome)}")
        if outcome.status and "rror: " not in outcome.said:
            return verdict("unsaid", last(outcome))
        if raw := next((mark for mark in RAW if mark in outcome.said and mark[0] != "<"), None):
            return verdict("raw", f"said: {raw}")
        if (now := _outside(stage)) != before:
            return verdict(
                "escaped", ", ".join(sorted(map(str, set(now) ^ set(before)))) or "what lies beside the home"
            )
        if not stage.untouched():
            return verdict("escaped", "code of others ran")
        what = "told" if outcome.status else what
        if (
            case is settings
            and outcome.status
            and (left := {path.name for path in (stage.home / "runs").iterdir()} - runs)
        ):
            return verdict("stray", f"runs/{left.pop()[:80]}, of which nothing could come")
    if raw := _raw_views(stage):
        return verdict("raw", raw)
    return verdict(what)


def _outside(stage: Stage) -> list[str]:
    """What lies beside the home, and at its top."""
    top = {"packs", "runs", "results", "judges", "report.html", "completed"}
    beside = [path.name for path in stage.folder.iterdir()]
    strange = [
        path.name
        for path in stage.home.iterdir()
        if path.name not in top and path.suffix not in (".npy", ".csv", ".png", ".safetensors", ".json")
    ]
    names = [
        path.name for path in (stage.home / "packs").iterdir() if path.is_dir() and not (path / "pack.json").exists()
    ]
    return sorted([*beside, *strange, *names])


def _raw_views(stage: Stage) -> str:
    """What of others stands in tables or the page as it is, "" where nothing does."""
    for path in [
        *stage.home.glob("results/**/*.md"),
        *stage.home.glob("report.html"),
        *stage.home.glob("results/tables/*.csv"),
    ]:
        text = path.read_bytes().decode("utf-8", "replace")
        for mark in RAW:
            if mark in text and not (path.suffix == ".csv" and mark[0] == "<"):
                return f"{path.name}: {mark}"
    return ""
