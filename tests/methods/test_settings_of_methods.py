"""Every setting of every method, set to what nobody means: it is built, or refused in a sentence."""

from dataclasses import fields

import pytest
import torch

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.methods.mde import Settings as MdeSettings
from mdebench.settings import LARGEST, Count, Depth, Rate, Share, Weight
from mdebench.training import recipes
from mdebench.training.trial import built

VALUES = ("0", "-1", str(10**10), str(LARGEST), "nan", "", "x", "٣")
SMALL = {"width": "2", "code": "4", "depth": "1", "decoder_depth": "1"}
# The six variants are settings of one method.
METHODS = [
    name for name in catalog.own_methods() if name == "rec" or catalog.method(name).load().Settings != MdeSettings
]


def names_of(method):
    return [each.name for each in fields(catalog.method(method).load().Settings)]


@pytest.mark.parametrize("method", METHODS)
def test_any_value_is_built_or_refused_in_a_sentence(home, pack, method):
    small = {key: value for key, value in SMALL.items() if key in names_of(method)}
    for key in (*names_of(method), "updates", "batch", "precision", "batch_norm", "deterministic"):
        for value in VALUES:
            try:
                recipe = recipes.make_recipe(method, pack, "tiny", 0, {**small, key: value})
                if not isinstance(recipe.settings.get(key), float):  # those are for training alone
                    built(recipe, torch.device("cpu"))
            except UserError as error:
                assert str(error) and "\n" not in str(error), (key, value)
    assert not home.runs.exists()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_widths_and_learning_rates_are_above_zero(pack, method, value):
    for key in names_of(method):
        if key in ("width", "code", "depth", "patches", "pool", "side") or key.endswith("lr"):
            with pytest.raises(UserError, match=key):
                recipes.make_recipe(method, pack, "tiny", 0, {key: value})


def test_every_number_has_a_range_or_its_own_check():
    """A baseline that is added has to say what its numbers may be."""
    known, own = (Count, Depth, Rate, Share, Weight), {"S", "overlap", "mask_ratio", "phases", "skips"}
    for method in METHODS:
        for each in fields(catalog.method(method).load().Settings):
            text = str(each.type)
            if each.name not in own and text not in ("<class 'str'>", "str | None", "<class 'bool'>"):
                assert any(kind in (each.type, *getattr(each.type, "__args__", ())) for kind in known), each
