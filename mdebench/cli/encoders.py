"""The commands that take something out of a run: `export`, `embed`, `complete`."""

from pathlib import Path
from typing import Literal

import click

from mdebench.cli.options import RUNS, SEED, Whole, existing_home_option, home_option
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.words import new_console


def _known(home: Home, run: str) -> None:
    """UserError, with near names, for a run or file that is not there, before anything is loaded."""
    if Path(run).suffix in (".safetensors", ".onnx", ".pt", ".pth") and not Path(run).exists():
        raise UserError(f"no such file: {run}")
    if not Path(run).is_file() and not (Path(run) / "run.json").is_file():
        home.find_run(run)


@click.command()
@click.argument("run", shell_complete=RUNS)
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), required=True, help=".safetensors, .onnx or .pt")
@existing_home_option
def export(run: str, to: Path, home: Home) -> None:
    """Write the encoder of RUN to a file (weights, an ONNX graph, or a torch.export program) and a JSON beside it."""
    _known(home, run)
    if to.suffix not in (".safetensors", ".onnx", ".pt"):
        raise UserError(f"--to {to}: the ending says what is written: .safetensors, .onnx or .pt")
    from mdebench.evaluation.encoders.export import export as write
    from mdebench.evaluation.encoders.loading import load

    console = new_console()
    encoder = load(run, home)
    path = write(encoder, to)
    console.print(f"{encoder.size}×{encoder.size} pixels → {encoder.feature_dim:,} numbers; checked: {encoder.name}")
    console.print(f"{path}\n{path}.json")


@click.command()
@click.argument("run", shell_complete=RUNS)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="codes.npy", show_default=True)
@existing_home_option
def embed(run: str, folder: Path, out: Path, home: Home) -> None:
    """Encode every picture under FOLDER by RUN: the codes as .npy, and a .csv that names the file of each row.

    RUN may be an exported .safetensors file. Pictures of any size are cropped as those that the run was trained on.
    """
    _known(home, run)
    if not folder.is_dir():
        is_file = f"{folder} is a file: name the folder that it is in"
        raise UserError(is_file if folder.exists() else f"there is no folder {folder}")
    if out.suffix != ".npy":
        raise UserError(f"--out {out}: codes are written as .npy")
    from mdebench.evaluation.encoders.embedding import embed as encode
    from mdebench.evaluation.encoders.loading import load

    console = new_console()
    for path in encode(load(run, home), folder, out, console):
        console.print(str(path))


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--run", "run_name", required=True, shell_complete=RUNS, help="A finished run; see `mdebench runs`.")
@click.option("--preset", help="An occlusion (mouth, both_eyes, …), or a scenario such as 'rec 0.1' drawn at random.")
@click.option("--mask", type=click.Path(path_type=Path), help="A picture: white is seen, black or erased is missing.")
@click.option("--mask-is", type=click.Choice(["missing", "seen"]), help="What the white or marked part of --mask is.")
@click.option("--boxes", help="What is seen of red, green and blue; three boxes x1:y1:x2:y2 in [0, 1], with commas.")
@click.option("--crop", help="centre, face, or x,y,side in pixels; by default the square as of the run's pack.")
@click.option("-n", "count", type=Whole(1), default=1, show_default=True, help="Samples of each picture.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=".", show_default=True)
@home_option
def complete(
    images: tuple[Path, ...],
    run_name: str,
    preset: str | None,
    mask: Path | None,
    mask_is: Literal["missing", "seen"] | None,
    boxes: str | None,
    crop: str | None,
    count: int,
    seed: int,
    out: Path,
    home: Home,
) -> None:
    """Complete your own pictures: for each of IMAGES, files or folders of them, a grid and the completed picture.

    The grid shows input, completion, composite and original. The completed picture has the run's number of pixels.
    """
    home.find_run(run_name)
    from mdebench.evaluation.encoders.complete import complete_images

    complete_images(
        home,
        images,
        run_name,
        new_console(),
        preset=preset,
        mask=mask,
        mask_is=mask_is,
        boxes=boxes,
        crop=crop,
        count=count,
        seed=seed,
        out=out,
    )
