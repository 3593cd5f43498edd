"""Packs of images and the sources they are made from: ``prepare`` once, ``open_pack`` ever after. One file, one source;
pictures are read, cropped and shrunk in ``decode``. Knows neither methods nor results.

Others may import what stands in this file, ``pack``, ``finding``, and ``decode`` for pictures of a user's own.
"""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdebench.data.pack import Pack, open_pack
from mdebench.errors import UserError
from mdebench.words import shown

if TYPE_CHECKING:
    from PIL import Image

# Source → the module with `EXPECTS` (what must lie in root) and `write(writer, root, progress, *, options)`.
SOURCES: dict[str, str] = {
    "toyfaces": "mdebench.data.toyfaces.source",
    "celeba": "mdebench.data.faces.celeba",
    "flowers": "mdebench.data.flowers",
    "mnist": "mdebench.data.mnist",
    "lfw": "mdebench.data.faces.lfw",
    "utkface": "mdebench.data.faces.utkface",
    "celeba-hq": "mdebench.data.faces.celeba_hq",
    "celebamask-hq": "mdebench.data.faces.celebamask_hq",
    "ffhq": "mdebench.data.faces.ffhq",
    "300w": "mdebench.data.faces.ibug300w",
    "wflw": "mdebench.data.faces.wflw",
    "cofw": "mdebench.data.faces.cofw",
    "folder": "mdebench.data.folder",
}


@contextmanager
def _quoting_strangers() -> Iterator[None]:
    """File names and cells that a UserError quotes do not reach a terminal as they are."""
    try:
        yield
    except UserError as error:
        raise type(error)(shown(str(error))) from error


@_quoting_strangers()
def prepare(
    source: str,
    root: Path | str | None,
    size: int,
    packs_dir: Path | str,
    *,
    name: str | None = None,
    strict: bool = False,
    keep_duplicates: bool = False,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> Path:
    """Make the pack packs_dir/name from a source and return its folder.

    root: the folder with the source's files (None for toyfaces, which draws its own); size: height and width in
    pixels; name: the pack's folder name, by default the source's (for `folder` the root's) with the size;
    strict: UserError unless every image is taken as it is and has all its labels; keep_duplicates: keep images of val
    and test whose pixels are also in train (of test: or in val), which are left out otherwise and told either way;
    replace: overwrite a different pack of that name; progress: called with (images done, images in all); tell: called
    with sentences on what a killed preparation had left; options: the source's own, such as pseudo_landmarks for
    celeba. Making an identical pack again leaves the old one where it is. UserError, without control characters, for
    whatever a person can put right, want of memory among it.
    """
    from mdebench.data.writer import PackWriter, check_name  # Pillow and the archive readers only when a pack is made

    if source not in SOURCES:
        raise UserError(f"There is no source '{source}': choose one of {', '.join(SOURCES)}.")
    module = import_module(SOURCES[source])
    known = [p.name for p in inspect.signature(module.write).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise UserError(f"The source {source} has no option '{option}' (it has: {', '.join(known) or 'none'}).")
    root = _checked_root(source, root, module.EXPECTS)
    name = default_name(source, root, size, options) if name is None else name
    check_name(name)
    with PackWriter(Path(packs_dir) / name, size, replace, tell or (lambda said: None)) as writer:
        with warnings.catch_warnings():  # Pillow warns of huge images, which are refused and reported anyway
            warnings.simplefilter("ignore")
            module.write(writer, root, progress or (lambda done, total: None), **options)
        writer.part_twins(keep_duplicates)
        if strict:
            writer.report.refuse(source)
        return writer.finish()


def default_name(source: str, root: Path, size: int, options: Mapping[str, Any] | None = None) -> str:
    """'celeba64'; for a folder its own name, with a dash after a digit: 'landmarks5-64'.

    Toyfaces that move, or have segments, are called so ('toyfaces-clips64'): 'toyfaces64' is the embedded set; so is
    CelebA with another partition than its own ('celeba-extra2200-64').
    """
    options = options or {}
    further = [what for what in ("clips", "segments") if source == "toyfaces" and options.get(what)]
    further += [f"extra{options['extra_test']}"] if options.get("extra_test") else []
    stem = "-".join([source, *further])
    if source == "folder":
        own = root.resolve().stem if root.is_file() else root.resolve().name
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", own).strip("-._") or source
    return f"{stem}-{size}" if stem[-1:] in tuple("0123456789") else f"{stem}{size}"


def list_packs(packs_dir: Path | str) -> tuple[list[Pack], list[str]]:
    """The packs below a folder by name, and for every other folder there one sentence that says why it is none."""
    packs, problems = [], []
    folder = Path(packs_dir)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            packs.append(open_pack(path))
        except UserError as error:
            problems.append(shown(str(error)))
    return packs, problems


def contact_sheet(pack: Pack, rows: int = 6, columns: int = 10) -> "Image.Image":
    """See `mdebench.data.sheet.contact_sheet`, which this loads Pillow for."""
    from mdebench.data import sheet

    return sheet.contact_sheet(pack, rows, columns)


def _checked_root(source: str, root: Path | str | None, expects: str) -> Path:
    if source == "toyfaces":
        return Path()
    if root is None:
        raise UserError(f"The source {source} needs --root, a folder with {expects}.")
    if not Path(root).exists():
        raise UserError(f"There is no {root}; the source {source} needs there {expects}.")
    return Path(root)
