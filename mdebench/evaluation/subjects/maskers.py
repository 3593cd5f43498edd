"""Maskers: runs that tell where an image is damaged, put in front of others that complete (a protocol's setting
``masker``).

A row names its masker by run and hash of weights, so that one trained again is another.
"""

from torch import Tensor

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject, Unfit
from mdebench.evaluation.passes import frozen
from mdebench.evaluation.subjects.finished import load_subject
from mdebench.evaluation.subjects.seen import check_unseen, trained_images
from mdebench.home import Home
from mdebench.methods.contract import Locates, shape_of
from mdebench.runs import Run
from mdebench.training.recipes import entry_of

NONE = "none"


def find_masker(home: Home, name: str, pack: Pack) -> Run | None:
    """The run called ``name``, None for "none"; UserError where it cannot tell where images of the pack are damaged."""
    if name == NONE:
        return None
    run = home.find_run(name)
    if not hasattr(entry_of(run.info).load().Method, "locate"):
        raise UserError(
            f"the masker {run.folder.name} cannot tell where an image is damaged (no locate); choose a run that can, "
            "such as one of vcnet"
        )
    if not run.finished:
        raise UserError(f"the masker {run.folder.name} is not finished; go on with the command that began it")
    if run.info["size"] != pack.size:
        raise UserError(f"the masker {run.folder.name} takes {run.info['size']} pixels, {pack.name} has {pack.size}")
    trained = trained_images(home, run.folder, run.info, pack)
    if trained is not None:
        check_unseen(f"the masker {run.folder.name}", run.info, pack, trained)
    return run


def load_masker(home: Home, name: str, pack: Pack) -> Subject | None:
    """The masker with its trained weights, None for "none"; UserError as `find_masker` has it."""
    run = find_masker(home, name, pack)
    return load_subject(run) if run else None


def masker_id(home: Home, name: str) -> str:
    """What rows say of a masker: its run and the hash of its weights, "none" for none."""
    if name == NONE:
        return NONE
    run = home.find_run(name)
    return f"{run.folder.name}-{run.info.get('weights_hash', '')[:12]}"


def locate(subject: Subject, images: Tensor) -> Tensor:
    """How probable it is that each pixel of images (N, 3, H, W) is intact, by a subject that `Locates`: (N, 1, H, W)
    float32. UserError where it gives another shape, or what is no probability; Unfit where it was made without that."""
    assert isinstance(subject.method, Locates)
    try:
        with frozen(subject.method):
            intact = subject.method.locate(images)
    except UserError as reason:
        raise Unfit(str(reason)) from reason
    promised = (len(images), 1, *images.shape[2:])
    if shape_of(intact) != promised:
        raise UserError(f"{subject.name}: locate promises (N, 1, H, W) = {promised} and gives {shape_of(intact)}")
    if not ((intact >= 0) & (intact <= 1)).all():  # not a number is neither
        raise UserError(f"{subject.name}: locate promises probabilities, and gives numbers outside [0, 1]")
    return intact.float()
