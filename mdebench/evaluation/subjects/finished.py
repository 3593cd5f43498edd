"""Subjects: finished runs with their trained weights, ready to be measured."""

from mdebench.compute.memory import enough_memory
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.judging.judge import Judge
from mdebench.evaluation.passes import placed
from mdebench.runs import Run
from mdebench.training.recipes import entry_of
from mdebench.training.trainer import build_method, weights_hash


def load_subject(run: Run, judge: Judge | None = None) -> Subject:
    """A finished run with its trained weights; UserError when its state does not fit, Absent without its method."""
    info = run.info
    if not run.finished:
        raise UserError(
            f"run {run.folder.name} is not finished ({info.get('status')}); go on with the command that began it"
        )
    with enough_memory(f"the networks of {run.folder.name}", "close what else takes memory, or use another machine"):
        state = run.load_state()["method"]
        method = build_method(entry_of(info), info["settings"], info["size"], info["seed"], state)
    if info["precision"] == "fp64":
        method.double()
    try:
        method.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{run.state_path} does not fit the networks of run.json; train this run again") from error
    if weights_hash(method) != info["weights_hash"]:
        raise UserError(f"{run.state_path} holds other weights than run.json says; train this run again")
    if info["precision"] == "fp64":  # images are measured in float32
        method.float()
    return Subject(run.folder.name, placed(method), run.folder, info["seed"], info["weights_hash"], judge)
