"""Encoders by name: a run's, or the one in an exported file."""

from pathlib import Path

from mdebench.errors import UserError
from mdebench.evaluation.encoders.encoder import Encoder
from mdebench.evaluation.encoders.export import load_export
from mdebench.evaluation.subjects import load_subject
from mdebench.home import Home
from mdebench.methods.contract import Completes, Encodes
from mdebench.runs import Run
from mdebench.training.recipes import changed_code
from mdebench.words import new_console, tell


def run_encoder(run: Run) -> Encoder:
    """The encoder of a finished run; UserError when it is not finished, or its state does not fit."""
    if changed := changed_code(run.info):
        tell(new_console(), "note", f"{run.folder.name} was {changed}")
    subject = load_subject(run)
    if not isinstance(subject.method, Encodes) and not isinstance(subject.method, Completes):
        raise UserError(f"{subject.name} neither encodes nor completes")
    return Encoder(subject.name, subject.method, run.info, run.folder)


def load(run: str | Path, home: Home) -> Encoder:
    """The encoder of a run, by its name in ``home`` or the path of its folder, or in an exported .safetensors file.

    UserError, with near names, where there is none.
    """
    path = Path(run)
    if path.suffix in (".safetensors", ".onnx", ".pt", ".pth"):
        return load_export(path)
    if (path / "run.json").is_file():
        return run_encoder(Run(path))
    return run_encoder(home.find_run(str(run)))
