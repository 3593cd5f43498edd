"""The commands of `mdebench data`: make packs, list them, look at them, verify them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdebench import files
from mdebench.cli.options import PACKS, Commands, completing, home_option
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.words import new_console, new_progress

if TYPE_CHECKING:
    from mdebench.data.pack import Pack


class Whole(click.IntRange):
    """Whole numbers in the digits 0 to 9: Python would take those of every script, and underscores."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; a usage error for anything else."""
        if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
            self.fail(f"{value!r} is not a whole number in the digits 0 to 9.", param, ctx)
        return super().convert(value, param, ctx)


SOURCES = (
    *("toyfaces", "celeba", "flowers", "mnist", "lfw", "utkface", "celeba-hq", "celebamask-hq", "ffhq"),
    *("300w", "wflw", "cofw", "folder"),
)


@click.group(cls=Commands)
def data() -> None:
    """Packs: one data set at one size, memory-mapped, with labels, splits and source."""


@data.command("list")
@home_option
def data_list(home: Home) -> None:
    """List the packs and the sources they can be made from."""
    from mdebench.data import list_packs

    packs, problems = list_packs(home.packs)
    for pack in packs:
        click.echo(pack.footnote())
    for problem in problems:
        click.echo(f"not a pack: {problem}", err=True)
    click.echo(f"sources: {', '.join(SOURCES)}")


@data.command("prepare")
@click.argument("source", shell_complete=completing(lambda home: SOURCES))
@click.option("--root", type=click.Path(path_type=Path), help="Folder (or archive) with the source's files.")
@click.option("--size", type=Whole(min=8), default=64, show_default=True, help="Height and width in pixels.")
@click.option("--name", help="Name of the pack; by default the source's and the size.")
@click.option(
    "--pseudo-landmarks", is_flag=True, help="celeba: use pseudo_landmarks.csv where official rows are missing."
)
@click.option(
    "--attribute-coding",
    metavar="1/0|1/-1",
    help="celeba, celeba-hq, celebamask-hq, folder: of attributes that hold -1 as well as 0: 1/0 if -1 is unknown, "
    "1/-1 if 0 is.",
)
@click.option(
    "--extra-test",
    type=Whole(min=1),
    metavar="N",
    help="celeba: test on at least N images more, of people taken out of train, as many as possible.",
)
@click.option("--count", type=Whole(min=1), help="toyfaces: how many faces to draw.")
@click.option("--seed", type=Whole(min=0), help="toyfaces: seed of the faces.")
@click.option("--clips", type=Whole(min=2), help="toyfaces: draw short clips of so many frames; --count counts frames.")
@click.option("--segments", is_flag=True, help="toyfaces: with the class of each pixel (hair, skin, eyes …).")
@click.option("--view", type=Whole(1, 2), help="lfw: 2 the ten folds (the default), 1 the pairs for development.")
@click.option("--strict", is_flag=True, help="Refuse when anything had to be converted or left out.")
@click.option(
    "--keep-duplicates",
    is_flag=True,
    help="Keep images of val and test that are in train as well; every table will say so.",
)
@click.option("--replace", is_flag=True, help="Overwrite another pack of this name.")
@home_option
def data_prepare(
    source: str,
    root: Path | None,
    size: int,
    name: str | None,
    pseudo_landmarks: bool,
    attribute_coding: str | None,
    extra_test: int | None,
    count: int | None,
    seed: int | None,
    clips: int | None,
    segments: bool,
    view: int | None,
    strict: bool,
    keep_duplicates: bool,
    replace: bool,
    home: Home,
) -> None:
    """Make a pack from SOURCE (one of those that `mdebench data list` names)."""
    from mdebench.data import prepare
    from mdebench.data.pack import open_pack

    options: dict[str, Any] = {"pseudo_landmarks": True} if pseudo_landmarks else {}
    options |= {"segments": True} if segments else {}
    given = {
        "attribute_coding": attribute_coding,
        "extra_test": extra_test,
        "count": count,
        "seed": seed,
        "clips": clips,
        "view": view,
    }
    options |= {key: value for key, value in given.items() if value is not None}
    said: list[str] = []
    with new_progress(new_console()) as bar:
        task = bar.add_task(f"preparing {source}", total=None)
        path = prepare(
            source,
            root,
            size,
            home.packs,
            name=name,
            strict=strict,
            keep_duplicates=keep_duplicates,
            replace=replace,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            tell=said.append,
            **options,
        )
    for each in said:
        click.echo(f"note: {each}", err=True)
    click.echo("\n".join(open_pack(path).summary()))
    click.echo(f"in {path}")


@data.command("show")
@click.argument("pack_name", metavar="PACK", shell_complete=PACKS)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="PNG file; default home/packs/PACK.png.")
@home_option
def data_show(pack_name: str, out: Path | None, home: Home) -> None:
    """Say what is in PACK and write a contact sheet with its landmarks drawn."""
    from mdebench.data import contact_sheet

    pack = _open(home, pack_name)
    click.echo("\n".join(pack.summary()))
    out = out or home.packs / f"{pack.name}.png"
    sheet = contact_sheet(pack)
    with files.writing(out) as stream:
        sheet.save(stream, "PNG")
    click.echo(f"contact sheet: {out}")


@data.command("verify")
@click.argument("pack_name", metavar="PACK", shell_complete=PACKS)
@home_option
def data_verify(pack_name: str, home: Home) -> None:
    """Recompute every hash of PACK."""
    from mdebench.data.pack import verify_pack

    if problems := verify_pack(home.pack(pack_name)):
        raise UserError("; ".join(problems))
    pack = _open(home, pack_name)
    click.echo(f"{pack.name} is whole: {len(pack.images):,} images, hash {pack.hash}")
    if files.CHECKSUM not in pack.info:
        click.echo(
            "note: it was made before packs had a checksum of what pack.json says, so its source, notes, report and "
            "options are not covered; prepare it again with --replace to have them covered"
        )


def _open(home: Home, name: str) -> "Pack":
    from mdebench.data.pack import open_pack

    return open_pack(home.pack(name))
