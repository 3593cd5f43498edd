"""That no run is tested on images that it was trained on: which these were, and what must be said of them.

Images are told by their pixels (`Pack.digests`), whatever their pack is called. A run keeps the digests of its training
images; those of an older one are found as long as the pack that it was trained on is here.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdebench.data import list_packs
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.rows import Measurement
from mdebench.runs import Run

Digests = npt.NDArray[np.uint64]


def trained_images(home: Home, folder: Path, info: Mapping[str, Any], pack: Pack) -> Digests | None:
    """The digests of the images that a run was trained on, none where it was not trained; None: not known.

    ``folder`` is the run's, where there is one; ``info`` its record; ``pack`` the one to measure on.
    """
    if not info["updates"]:
        return np.empty(0, np.uint64)
    run = Run(folder)
    kept = run.trained_on() if run.info.get("weights_hash") == info["weights_hash"] else None
    if kept is not None:
        return kept
    if pack.hash == info["pack_hash"]:
        return pack.split_digests("train")
    found = next((each for each in list_packs(home.packs)[0] if each.hash == info["pack_hash"]), None)
    return None if found is None else found.split_digests("train")


def check_unseen(name: str, info: Mapping[str, Any], pack: Pack, trained: Digests) -> None:
    """UserError where a run was trained on test images of the pack, but for twins that the pack keeps by request."""
    test = pack.split_digests("test")
    seen = np.isin(test, trained)
    if pack.keeps_duplicates:
        seen &= ~np.isin(test, pack.split_digests("train"))
    if not seen.any():
        return
    told = f"{name} was trained on {seen.sum():,} of the {len(test):,} test images of {pack.name}"
    if pack.hash == info["pack_hash"]:
        raise UserError(
            f"{told}, as they are in its training partition too: make the pack again, `mdebench data prepare` with "
            "--replace, which leaves them out (or, asked for, keeps them: --keep-duplicates)"
        )
    raise UserError(
        f"{told} (pack {pack.hash[:8]}; its own was {info['pack']}, pack {info['pack_hash'][:8]}): "
        "measure it on the pack that it was trained on, or train another run on this one"
    )


def remarked(found: Measurement, info: Mapping[str, Any], pack: Pack, trained: Digests | None) -> Measurement:
    """A measurement whose note says that the run was trained on images it was measured on, or that none knows."""
    if trained is None:
        remark = unknown(info)
    elif found.images is None or not (seen := int(np.isin(pack.digests(found.images), trained).sum())):
        return found
    else:
        count = len(found.images)
        remark = f"the encoder saw {'all' if seen == count else f'{seen:,}'} of these {count:,} images in pretraining"
    return replace(found, note="; ".join(filter(None, [found.note, remark])))


def unknown(info: Mapping[str, Any]) -> str:
    """That nobody knows whether a run was trained on the images that it is tested on, and why."""
    own = f"{info['pack']}, pack {info['pack_hash'][:8]}"
    return f"not known whether it was trained on test images: it kept no list, and its own pack ({own}) is not here"
