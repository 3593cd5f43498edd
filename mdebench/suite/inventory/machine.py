"""The machine as `mdebench doctor` sees it: what is installed, and what a run at scale small would find."""

import math
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata

from mdebench.compute.memory import free_memory
from mdebench.files import SHORT, said
from mdebench.home import Home
from mdebench.results.provenance import provenance
from mdebench.suite.inventory.findings import Told
from mdebench.words import size

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pandas", "pillow", "matplotlib")
EXTRAS = {
    "ray": "ray",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "opencv-python-headless": "opencv",
}  # package → what to install it with
# Of a run at scale small on one thread: its resident peak, and its checkpoint twice, as the old one stays until the new
# one is whole, with samples and rows. Features of a pack take 4 kB an image more.
MEMORY, DISK = 1.1e9, 0.2e9
DESCRIPTORS = 64  # with which every command was tried, also in processes and on Ray
SIGNS = "†≈×–√²"  # in tables and on the terminal


def machine(home: Home) -> Iterator[Told]:
    """Facts, and findings where something is missing or less than a run at scale small takes."""
    made = provenance()
    changed = ", with changes" if made["dirty"] else ""
    code = "installed" if made["git"] == "wheel" else f"revision {made['git'][:8]}{changed}"
    yield Told("fact", f"mdebench {made['packages']['mdebench']} ({code}), Python {platform.python_version()}")
    yield Told("fact", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield from _packages()
    yield from _torch()
    yield from _memory()
    yield from _disk(home)
    yield from _descriptors()
    yield from _temporary()
    yield from _terminal()


def _packages() -> Iterator[Told]:
    versions = {name: _version(name) for name in (*PACKAGES, *EXTRAS)}
    yield Told("fact", "packages: " + ", ".join(f"{name} {versions[name] or 'missing'}" for name in PACKAGES))
    if missing := [name for name in PACKAGES if not versions[name]]:
        yield Told("finding", f"{', '.join(missing)} not installed", "pip install mdebench")
    told = [f"{name} {versions[name] or f'missing (pip install mdebench[{of}])'}" for name, of in EXTRAS.items()]
    yield Told("fact", f"for more: {', '.join(told)}")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _torch() -> Iterator[Told]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import torch

        from mdebench.compute.machine import default_device, default_precision
    except (ImportError, OSError, RuntimeError) as error:
        yield Told("fact", f"cores: {cores}")
        yield Told("finding", f"torch cannot be imported ({error})", "install it anew, as https://pytorch.org says")
        return
    threads, device = torch.get_num_threads(), default_device()
    capability = torch.backends.cpu.get_cpu_capability()
    yield Told("fact", f"threads: {threads}, for {cores} cores; CPU capability {capability}")
    if threads > cores:
        yield Told("finding", f"torch takes {threads} threads for {cores} cores", f"export OMP_NUM_THREADS={cores}")
    yield Told("fact", f"precision by default: {default_precision(device)}, on {device.type}")
    count = torch.cuda.device_count()
    gpus = [(torch.cuda.get_device_name(i), torch.cuda.mem_get_info(i)) for i in range(count)]
    told = [f"{name}, {size(free)} of {size(total)} free" for name, (free, total) in gpus]
    yield Told("fact", f"GPU: {'; '.join(told) or 'none'}")


def _memory() -> Iterator[Told]:
    free = free_memory()
    if math.isinf(free):
        yield Told("not looked at", "free memory, which this system does not tell")
        return
    yield Told("fact", f"memory: {size(free)} free; a run at scale small takes about {size(MEMORY)}")
    if free < MEMORY:
        yield Told("finding", f"{size(free)} of memory free are less than a run at scale small takes", "end something")


def _disk(home: Home) -> Iterator[Told]:
    place = home.folder.absolute()
    free = shutil.disk_usage(place).free
    needed = f"{size(DISK)} and 4 kB for each image that it is measured on"
    yield Told("fact", f"disk: {size(free)} free at {place}; a run at scale small takes about {needed}")
    if free < DISK:
        yield Told(
            "finding", f"{size(free)} are free at {place}; make room (`mdebench prune`) or choose another --home"
        )
    if not os.access(place, os.W_OK):
        yield Told("note", f"{place} may not be written by you", "what is there can be looked at")


def _descriptors() -> Iterator[Told]:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    told = "without limit" if soft == resource.RLIM_INFINITY else f"{soft:,} at most"
    yield Told("fact", f"open files: {told}")
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        yield Told("finding", f"only {soft} files can be open at a time", f"ulimit -n {DESCRIPTORS}, or more")


def _temporary() -> Iterator[Told]:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"0")
    except OSError as error:
        yield Told("finding", f"no temporary file can be written ({said(error)})", "export TMPDIR=FOLDER")
        return
    yield Told("fact", f"temporary files: {tempfile.gettempdir()}, writable")
    if not os.access(SHORT, os.W_OK):
        yield Told("finding", f"{SHORT} is not writable, where --on ray has its sockets", "permit it, or use --jobs")


def _terminal() -> Iterator[Told]:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    yield Told("fact", f"terminal: {encoding}")
    try:
        SIGNS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        yield Told(
            "finding", f"{encoding} lacks signs that are said ({' '.join(SIGNS)}); export PYTHONIOENCODING=utf-8"
        )
