"""What methods are given beside images: no label reaches one that does not say so; one that says so learns from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mdebench import catalog
from mdebench.data.pack import open_pack
from mdebench.home import Home
from mdebench.methods.contract import Batch
from mdebench.training.beside import MADE_UP, beside_of
from mdebench.training.recipes import make_recipe, train_run

OWN = {name: catalog.method(name).load() for name in catalog.own_methods()}
UNLABELLED = [name for name, module in OWN.items() if not module.Method.TAKES]
KNOWN = ("attributes", "landmarks", "identity", "label")


@pytest.fixture(scope="module")
def packs(faces):
    """A pack as it is, and with all that is known of an image at another image of its partition."""
    pack = open_pack(faces.packs / "toyfaces16")
    order, rng = np.arange(len(pack.split)), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        order[pack.indices(split)] = rng.permutation(pack.indices(split))
    return pack, replace(pack, **{name: getattr(pack, name)[order] for name in KNOWN})


def weights(name, packs, folder, console):
    """The hash of a method's weights after a short run on each pack."""
    small = {key: "2" for key in ("width", "code", "depth") if key in OWN[name].Settings.__dataclass_fields__}
    told = small | {"updates": "3", "batch": "4", "precision": "fp32"}
    for number, pack in enumerate(packs):
        recipe = make_recipe(name, pack, "tiny", 0, told)
        yield train_run(Home(folder / str(number)), recipe, pack, console).info["weights_hash"]


@pytest.mark.parametrize("name", ["rec", "context_encoder", "split_brain", "mae"])
def test_shuffled_labels_leave_a_methods_weights_as_they_are(name, packs, tmp_path, console):
    assert name in UNLABELLED
    true, shuffled = weights(name, packs, tmp_path, console)
    assert true == shuffled


@pytest.mark.parametrize("name", ["multi_task", "recognition"])
def test_a_method_that_takes_labels_learns_from_them(name, packs, tmp_path, console):
    true, shuffled = weights(name, packs, tmp_path, console)
    assert true != shuffled


@pytest.mark.parametrize("name", UNLABELLED)
def test_a_method_that_takes_nothing_is_given_nothing(name, packs):
    recipe = make_recipe("rec", packs[0], "tiny", 0, {})
    assert beside_of(OWN[name].Method, packs[0], recipe, torch.device("cpu")) is None


def test_what_is_not_given_cannot_be_had(packs):
    batch = Batch(torch.zeros(2, 3, 16, 16), torch.arange(2), 0, 0, 0, torch.Generator(), 10)
    for name in MADE_UP:
        with pytest.raises(KeyError):
            batch.beside(name)
    recipe = make_recipe("recognition", packs[0], "tiny", 0, {})
    given = beside_of(OWN["recognition"].Method, packs[0], recipe, torch.device("cpu"))
    batch = replace(batch, given=given, index=torch.tensor([5, 3]))
    assert batch.beside("identity").tolist() == packs[0].identity[[5, 3]].tolist()
    with pytest.raises(KeyError):
        batch.beside("attributes")
