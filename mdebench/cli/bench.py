"""The commands of `mdebench bench`: how fast this machine is, and how near to its limits the suite comes."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdebench.cli.options import METHODS, Commands, home_option, scale_option, set_option
from mdebench.home import Home
from mdebench.settings import parse_overrides
from mdebench.words import new_console

if TYPE_CHECKING:
    from mdebench.bench.record import Record

rounds_option = click.option(
    "--rounds", type=click.IntRange(min=3), default=15, show_default=True, help="Alternations measured."
)
save_option = click.option("--save", is_flag=True, help="Keep the numbers as rows in results/speed/.")


@click.group(cls=Commands)
def bench() -> None:
    """Measure speed on this machine, as ratios within one process."""


@bench.command()
@rounds_option
@save_option
@home_option
def peak(rounds: int, save: bool, home: Home) -> None:
    """What the machine can do: convolutions and matrix products in bf16 and fp32, and copying memory."""
    from mdebench.bench.peak import bench_peak

    _keep(bench_peak(rounds, new_console()), save, home)


@bench.command()
@click.argument("method", default="rec", shell_complete=METHODS)
@scale_option
@click.option("--size", type=click.IntRange(min=8), default=None, help="Pixels a side instead of the scale's.")
@click.option("--batch", type=click.IntRange(min=1), default=None, help="Images an update instead of the scale's.")
@click.option("--images", type=click.IntRange(min=1), default=2000, show_default=True, help="Images of the pack.")
@click.option("--mode", default="eager", show_default=True, help="eager, compiled, or captured (on a GPU).")
@set_option
@rounds_option
@save_option
@home_option
def step(
    method: str,
    scale: str,
    size: int | None,
    batch: int | None,
    images: int,
    mode: str,
    sets: tuple[str, ...],
    rounds: int,
    save: bool,
    home: Home,
) -> None:
    """One update of METHOD against the same networks and losses written plainly, and against the machine's peak."""
    from mdebench.bench.step import bench_step, step_case

    case = step_case(method, scale, parse_overrides(sets), size, batch, images, mode)
    _keep(bench_step(case, rounds, new_console()), save, home)


@bench.command()
@click.option("--celeba", "root", type=click.Path(path_type=Path, exists=True), help="Folder with CelebA's archive.")
@click.option("--size", type=click.IntRange(min=8), default=64, show_default=True, help="Pixels a side.")
@click.option("--count", type=click.IntRange(min=24), default=5000, show_default=True, help="Generated pictures.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Alternations measured.")
@save_option
@home_option
def data(root: Path | None, size: int, count: int, rounds: int, save: bool, home: Home) -> None:
    """Making a pack against decoding alone, its memory, and reading batches; of generated pictures or of CelebA."""
    from mdebench.bench.data import bench_data

    _keep(bench_data(root, size, count, rounds, new_console()), save, home)


@bench.command()
@click.argument("method", default="rec", shell_complete=METHODS)
@scale_option
@click.option("--updates", type=click.IntRange(min=1), default=5000, show_default=True, help="Updates of the head.")
@click.option("--images", type=click.IntRange(min=100), default=15_000, show_default=True, help="Images of the pack.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Alternations measured.")
@save_option
@home_option
def transfer(method: str, scale: str, updates: int, images: int, rounds: int, save: bool, home: Home) -> None:
    """A head on the frozen encoder of METHOD: features computed once and kept, against encoding every batch."""
    from mdebench.bench.transfer import bench_transfer

    _keep(bench_transfer(method, scale, updates, images, rounds, new_console()), save, home)


@bench.command()
@click.option("--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Pairs of pictures.")
@click.option("--size", type=click.IntRange(min=11), default=96, show_default=True, help="Pixels a side.")
@rounds_option
@save_option
@home_option
def metrics(count: int, size: int, rounds: int, save: bool, home: Home) -> None:
    """pSNR and SSIM of many pictures, against torchmetrics, and how near to scikit-image they are."""
    from mdebench.bench.metrics import bench_metrics

    _keep(bench_metrics(count, size, rounds, new_console()), save, home)


@bench.command()
@click.option("--all", "every", is_flag=True, help="Every number instead of a line for each case.")
@home_option
def table(every: bool, home: Home) -> None:
    """The rows of speed that were kept, by machine, as the README shows them."""
    from mdebench.bench.record import short_table, speed_table

    told = speed_table(home) if every else short_table(home)
    new_console().print(told or f"no rows of speed in {home.speed}: give a bench with --save")


def _keep(record: "Record", wanted: bool, home: Home) -> None:
    if wanted:
        from mdebench.bench.record import save

        click.echo(f"kept in {save(home, record)}")
