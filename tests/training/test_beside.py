"""What a method does not name it is not given; what it names is the pack's, row by row."""

import numpy as np
import pytest
import torch
from mocks import make_pack

from mdebench.errors import UserError
from mdebench.methods import Batch, Method
from mdebench.runs import Recipe
from mdebench.training.beside import MADE_UP, beside_of, known, made_up

CPU = torch.device("cpu")


class Nosy(Method):
    TAKES = ("attributes", "clip")


def pack_of_people():
    rng = np.random.default_rng(0)
    return make_pack(labels=rng.integers(-1, 2, (100, 3)), identities=np.arange(100) // 4, size=8)


def batch(method, pack, index):
    recipe = Recipe("nosy", "nosy", {}, "tiny", 8, "mock", "", 0, 5, len(index), "fp32", {})
    given = beside_of(method, pack, recipe, CPU)
    images = torch.zeros(len(index), 3, 8, 8)
    return Batch(images, torch.as_tensor(index), 0, 0, 0, torch.Generator(), 5, given=given)


def test_who_names_nothing_is_given_nothing():
    pack = pack_of_people()
    assert beside_of(Method(None, 8), pack, None, CPU) is None
    plain = batch(Method(None, 8), pack, [0, 1])
    for name in ("attributes", "identity", "label"):
        with pytest.raises(KeyError):
            plain.beside(name)
    with pytest.raises(KeyError):
        plain.others(torch.tensor([3]))


def test_what_is_named_is_the_packs_and_nothing_else_is_given():
    pack, rows = pack_of_people(), [7, 3, 99]
    b = batch(Nosy(None, 8), pack, rows)
    assert np.array_equal(b.beside("attributes").numpy(), pack.attributes[rows])
    assert b.beside("clip").tolist() == [-1, -1, -1]
    assert torch.allclose(255 * b.others(torch.tensor([5])), torch.from_numpy(pack.images[[5]].copy()).float())
    with pytest.raises(KeyError, match="identity"):
        b.beside("identity")


def test_what_there_is_decides_what_can_be_learned():
    pack = pack_of_people()
    there = known(pack)
    people = pack.identity[pack.indices("train")].max() + 1
    assert there == {**dict.fromkeys(MADE_UP, 0), "attributes": 3, "identity": people}
    with pytest.raises(UserError, match="learns from clip, and the pack has no training images with any"):
        Nosy.suited(None, there)
    assert Nosy.suited("as they are", {**there, "clip": 2}) == "as they are"


def test_made_up_labels_are_of_the_same_kinds():
    given = made_up(Nosy(None, 8), 6)
    assert given.arrays.keys() == {"attributes", "clip"} and given.arrays["attributes"].shape == (6, 40)
    assert given.images(torch.tensor([1, 2])).shape == (2, 3, 8, 8)
    assert made_up(Method(None, 8), 6) is None
