"""What is broken into: a small home with a bit of everything, sources of every kind, and the commands given there.

A `Job` is a command, what must be cleared away before it so that it has something to do, and how its result is told
from another one: what it leaves in files, but for times, and, where it only shows something, what it says.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import signal
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import children
import numpy as np
from children import Limits, Outcome, Stop

SET = "--set width=2 --set code=4 --set batch=4 --set precision=fp32 --updates 6"
TRAIN = f"pretrain rec --S 0.1 --scale tiny --pack toyfaces16 {SET}"
RUN = "toyfaces16-rec-S0.1-tiny-batch=4-code=4-precision=fp32-updates=6-width=2-seed"
FINISHED, BROKEN_OFF, FRESH = f"{RUN}0", f"{RUN}1", f"{RUN}2"
TIMM = "pretrain timm:test_resnet --scale tiny --pack toyfaces16 --set side=32 --set weights="
SETUP = 120.0  # seconds for a command on the way to the scene
VOLATILE = {"time", "seconds", "images_per_second", "checksum", "date", "pid"}
LOCKS = re.compile(r"(.*/)?\.(.+\.)?lock")
CLOCK = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z)?|\d[\d.,]* ?(s|ms|min|kB|MB|GB|B)\b")
MARK = "canary"  # what no command may touch, beside the home


@dataclass(frozen=True)
class Job:
    """A command. ``clear``: globs below the home that are deleted first. ``shows``: what it says is its result.

    ``makes``: a glob of what it makes also where one of the things that it reads is damaged; ``told``: words that it
    says also then.
    """

    name: str
    words: str
    clear: Sequence[str] = ()
    shows: bool = False
    makes: str = ""
    told: str = ""


NEW_PACK = ("packs/new",)
ROWS = ("results/rows/*/*.jsonl", "results/values", "results/rows/*/display.json")
UNMEASURED = (*ROWS, "runs/*/features", "runs/*/gallery")
PREPARE = "--size 16 --name new --root ../sources"

WRITING = [
    Job("data prepare toyfaces", "data prepare toyfaces --size 16 --count 60 --name new", NEW_PACK),
    Job("data prepare folder", f"data prepare folder {PREPARE}/folder", NEW_PACK),
    Job("data prepare zip", f"data prepare folder {PREPARE}/folder.zip", NEW_PACK),
    Job("data prepare tgz", f"data prepare folder {PREPARE}/folder.tgz", NEW_PACK),
    Job("data prepare --replace", "data prepare folder --size 16 --name old --replace --root ../sources/folder"),
    Job("data prepare celeba", f"data prepare celeba {PREPARE}/celeba", NEW_PACK),
    Job("data prepare mnist", f"data prepare mnist {PREPARE}/mnist", NEW_PACK),
    Job("data show", "data show toyfaces16", ("packs/*.png",)),
    Job("pretrain", f"{TRAIN} --seed 3"),
    Job("pretrain, resumed", f"{TRAIN} --seed 1"),
    Job("judge", "judge toyfaces16", ("judges",)),
    Job("measure landmarks", "measure landmarks --set setting=frozen-probe", UNMEASURED),
    Job("transfer attributes", f"transfer attributes {FINISHED} --set updates=20", UNMEASURED),
    Job("occlusion", "occlusion --preset mouth", UNMEASURED),
    Job("measure layers", f"measure layers {FINISHED}", UNMEASURED),
    Job("measure a stranger's", "measure ../upturned.py", UNMEASURED),
    Job("tables", "tables", ("results/tables/*1*", "results/sheets")),
    Job("figures", "figures", ("results/figures/*1*",)),
    Job("report", "report"),
    Job("audit --mend", "audit --mend"),
    Job("export", f"export {FINISHED} --to e.safetensors"),
    Job("embed", f"embed {FINISHED} ../pictures --out codes.npy"),
    Job("complete", f"complete ../pictures --run {FINISHED} --mask ../mask.png --out completed"),
    Job("prune", "prune"),
    Job("costs", "costs table1 --scale tiny --pack toyfaces16"),
]

READING = [
    Job("runs", "runs", shows=True, told="toyfaces16-constant"),
    Job("show", f"show {FINISHED}", shows=True),
    Job("compare", f"compare {FINISHED} {FRESH}", shows=True),
    Job("prune --dry-run", "prune --dry-run", shows=True),
    Job("data list", "data list", shows=True, told="old (from"),
    Job("data verify", "data verify toyfaces16", shows=True),
    Job("data show", "data show toyfaces16", ("packs/*.png",), shows=True),
    Job("audit", "audit", shows=True),
    Job("pretrain, finished", f"{TRAIN} --seed 0"),
    Job("pretrain, resumed", f"{TRAIN} --seed 1"),
    Job("pretrain on a pack", f"{TRAIN} --seed 2", (f"runs/{FRESH}",)),
    Job("measure again", f"measure landmarks {FINISHED} --set setting=frozen-probe", ("results/rows/landmarks",)),
    Job("measure anew", f"measure layers {FINISHED}", UNMEASURED),
    Job("measure what is there", f"measure landmarks {FINISHED} --set setting=frozen-probe"),
    Job("occlusion", f"occlusion {FINISHED} --preset mouth", UNMEASURED),
    Job("tables", "tables", ("results/tables", "results/sheets", "results/README.md"), makes="results/tables/*.md"),
    Job("figures", "figures", ("results/figures",), makes="results/figures/*.csv"),
    Job("report", "report", ("report.html",), makes="report.html"),
    Job("export", f"export {FINISHED} --to e.safetensors"),
    Job("embed", f"embed {FINISHED} ../pictures --out codes.npy"),
    Job("embed an export", "embed ../e.safetensors ../pictures --out codes.npy"),
    Job("complete", f"complete ../pictures/a00.png --run {FINISHED} --mask ../mask.png --out completed"),
    Job("judge, finished", "judge toyfaces16"),
    Job("costs", "costs table1 --scale tiny --pack toyfaces16"),
    Job("bench table", "bench table --all", shows=True),
    Job("pretrain .pth", f"{TIMM}../weights/w.pth"),
    Job("pretrain .safetensors", f"{TIMM}../weights/w.safetensors"),
    *(
        Job(f"data prepare {what}", f"data prepare {source} {PREPARE}/{what}", NEW_PACK)
        for source, what in (
            *(("folder", f"folder{end}") for end in ("", ".zip", ".tar", ".tgz")),
            *(("celeba", "celeba"), ("flowers", "flowers"), ("mnist", "mnist"), ("mnist", "mnistgz")),
        )
    ),
]
JOBS = {f"w {job.name}": job for job in WRITING} | {f"r {job.name}": job for job in READING}


# --- the scene


def build(base: Path) -> None:
    """Make everything below an empty folder: ``home/``, ``sources/``, ``weights/``, ``pictures/``, and so on."""
    from elsewhere import PROTOCOL

    home = base / "home"
    home.mkdir(parents=True)
    (base / "upturned.py").write_text(PROTOCOL)
    (base / MARK).write_text("nobody's business")
    make_sources(base)
    done = children.run(lambda: make_weights(base / "weights"), base, Limits(SETUP))
    assert done.status == 0, done.said
    probe = "--set setting=frozen-probe"
    for words in (
        "data prepare toyfaces --size 16 --count 300",
        "data prepare toyfaces --size 16 --count 30 --seed 9 --name old",
        f"{TRAIN} --seed 0",
        f"{TRAIN} --seed 2",
        f"measure landmarks {probe}",
        "occlusion --preset mouth",
        "measure resampling --set images=8",
        "measure ../upturned.py",
        "judge toyfaces16",
        f"export {FINISHED} --to ../e.safetensors",
        "tables",
        "figures",
        "report",
        "bench metrics --count 2 --size 16 --rounds 3 --save",
    ):
        done = children.run(children.mdebench(words.split()), home, Limits(SETUP))
        assert done.status == 0, f"{words}: {done.said}"
    _break_off(home)


def _break_off(home: Path) -> None:
    """A run that was stopped half way."""
    for moment in range(40, 400, 6):
        shutil.rmtree(home / "runs" / BROKEN_OFF, ignore_errors=True)
        call = children.mdebench(f"{TRAIN} --seed 1".split())
        children.run(call, home, Limits(SETUP), Stop(signal.SIGINT, event=moment))
        info = home / "runs" / BROKEN_OFF / "run.json"
        told = json.loads(info.read_text()) if info.is_file() else {}
        if told.get("step") in (2, 3, 4) and told["status"] == "interrupted":
            return
    raise AssertionError("no run could be stopped half way")


def picture(rng: np.random.Generator, kind: str, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> bytes:
    """A smooth picture, encoded."""
    from PIL import Image

    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    stream = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(stream, kind)
    return stream.getvalue()


def idx(values: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    """As MNIST has it."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes()


def make_sources(base: Path) -> None:
    """Sources of every kind, and pictures to complete with a mask."""
    from PIL import Image
    from scipy.io import savemat

    from mdebench.data.pack import ATTRIBUTES, LANDMARKS

    rng, sources = np.random.default_rng(0), base / "sources"
    points = [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]
    kinds = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
    folder = sources / "folder"
    folder.mkdir(parents=True)
    lines = [",".join(("path", "split", "identity", "label", "Smiling", "Hat", *points))]
    for number in range(21):
        kind = kinds[number % len(kinds)]
        name = f"p{number:02d}.{kind.lower()}"
        (folder / name).write_bytes(picture(rng, kind))
        split = ("train", "train", "val", "test")[number % 4]
        cells = [name, split, number // 2, ("cat", "dog", "emu")[number % 3], number % 2, (number // 2) % 2]
        cells += [round(float(value), 1) for value in rng.uniform(3, 17, 10)]
        lines.append(",".join(map(str, cells)))
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    pack_folder(folder)

    celeba = sources / "celeba"
    (celeba / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, 10)]
    for name in names:
        (celeba / "img_align_celeba" / name).write_bytes(picture(rng, "JPEG", (178, 218)))
    eyes = (69, 111, 108, 111, 88, 135, 71, 152, 105, 152)
    marks = [[1 if (row + column) % 2 else -1 for column in range(40)] for row in range(len(names))]
    tables = {
        "list_attr_celeba": [[len(names)], ATTRIBUTES, *([name, *row] for name, row in zip(names, marks))],
        "list_eval_partition": [[name, row % 3] for row, name in enumerate(names)],
        "identity_CelebA": [[name, 100 + row // 2] for row, name in enumerate(names)],
        "list_landmarks_align_celeba": [[len(names)], points, *([name, *eyes] for name in names)],
    }
    for stem, rows in tables.items():
        (celeba / f"{stem}.txt").write_text("".join(f"{' '.join(map(str, row))}\n" for row in rows))

    flowers = sources / "flowers"
    (flowers / "jpg").mkdir(parents=True)
    for number in range(1, 9):
        (flowers / "jpg" / f"image_{number:05d}.jpg").write_bytes(picture(rng, "JPEG", (50, 40)))
    labels = np.array([[1, 2, 102, 4, 5, 6, 7, 8]], np.uint8)
    savemat(flowers / "imagelabels.mat", {"labels": labels}, do_compression=True)
    savemat(flowers / "setid.mat", {"trnid": [[2, 6]], "valid": [[1, 3]], "tstid": [[4, 5, 7, 8]]})

    for name, packed in (("mnist", bytes), ("mnistgz", lambda data: gzip.compress(data, mtime=0))):
        (sources / name).mkdir()
        for part in ("train", "t10k"):
            digits = rng.integers(0, 256, (9, 28, 28), np.uint8)
            end = ".gz" if name == "mnistgz" else ""
            (sources / name / f"{part}-images-idx3-ubyte{end}").write_bytes(packed(idx(digits)))
            (sources / name / f"{part}-labels-idx1-ubyte{end}").write_bytes(packed(idx(np.arange(9, dtype=np.uint8))))

    (base / "pictures").mkdir()
    for number, kind in enumerate(("PNG", "JPEG", "WEBP", "TIFF")):
        (base / "pictures" / f"a{number:02d}.{kind.lower()}").write_bytes(picture(rng, kind, (30, 30)))
    mask = np.full((30, 30), 255, np.uint8)
    mask[10:20, 5:20] = 0
    Image.fromarray(mask).save(base / "mask.png")


def pack_folder(folder: Path) -> None:
    """The archives of a folder, beside it; the same bytes every time."""
    files = sorted(path for path in folder.iterdir())
    with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
        for number, path in enumerate(files):
            info = zipfile.ZipInfo(path.name)
            info.compress_type = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)[number % 2]
            archive.writestr(info, path.read_bytes())
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for path in files:
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            archive.addfile(info, io.BytesIO(path.read_bytes()))
    Path(f"{folder}.tar").write_bytes(plain.getvalue())
    Path(f"{folder}.tgz").write_bytes(gzip.compress(plain.getvalue(), mtime=0))


def make_weights(folder: Path) -> None:
    """Weight files of a small network of timm."""
    import timm
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    torch.save({"state_dict": state}, folder / "w.pth")
    save_file(state, folder / "w.safetensors")


# --- a command there


class Stage:
    """A copy of the scene in which one thing happens."""

    def __init__(self, scene: Path, folder: Path):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(scene, folder, symlinks=True)
        self.home = folder / "home"

    def clear(self, job: Job) -> None:
        """Delete what the job is to make."""
        for pattern in job.clear:
            for path in list(self.home.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def give(self, job: Job, limits: Limits, stop: Stop | None = None) -> Outcome:
        """Give the job's command."""
        return children.run(children.mdebench(job.words.split()), self.home, limits, stop)

    def result(self, job: Job, outcome: Outcome | None = None) -> dict[str, str]:
        """What it left, path by path, and what it said where that is its result; but for times."""
        found = fingerprint(self.home)
        if job.shows and outcome is not None:
            for number, line in enumerate(CLOCK.sub("#", outcome.said.replace(str(self.folder), "")).splitlines()):
                found[f"said {number}"] = line
        return found

    def untouched(self) -> bool:
        """Whether what lies beside the home is as it was."""
        return (self.folder / MARK).read_text() == "nobody's business"


def fingerprint(home: Path) -> dict[str, str]:
    """Path → digest of every file below a folder, but for times and locks; folders end in "/"."""
    found = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if LOCKS.fullmatch(name) or path.is_symlink():
            continue
        if path.is_dir():
            if not any(path.iterdir()) and path.name.startswith((".", "tmp")):
                found[f"{name}/"] = ""
        elif path.is_file():
            found[name] = hashlib.sha256(_timeless(path)).hexdigest()[:16]
        else:
            found[name] = "special"
    return found


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    try:
        if path.suffix == ".json":
            return json.dumps(_plain(json.loads(data)), sort_keys=True).encode()
        if path.suffix == ".jsonl":
            return json.dumps([_plain(json.loads(line)) for line in data.splitlines()], sort_keys=True).encode()
        if path.suffix == ".pt":
            return _state(data)
    except Exception:  # a damaged file makes its reader raise almost anything
        return data
    return data


def _state(data: bytes) -> bytes:
    """What a checkpoint holds: the same tensors may be pickled otherwise once they were restored."""
    import torch

    def plain(value: object) -> object:
        if isinstance(value, torch.Tensor):
            pixels = (
                value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
            )
            return str(value.dtype), tuple(value.shape), hashlib.sha256(pixels).hexdigest()
        if isinstance(value, dict):
            return sorted((str(key), plain(each)) for key, each in value.items())
        return [plain(each) for each in value] if isinstance(value, (list, tuple)) else repr(value)

    return repr(plain(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))).encode()


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key not in VOLATILE}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def differences(usual: dict[str, str], found: dict[str, str]) -> list[str]:
    """The paths that differ: "+" more, "-" less, "≠" other."""
    signs = [(path, "-" if path not in found else "+" if path not in usual else "≠") for path in usual | found]
    return [f"{sign}{path}" for path, sign in signs if usual.get(path) != found.get(path)]
