"""The contract over every method that the catalog finds: one new file is held to it without anybody listing it."""

import re

import pytest
import torch

from mdebench import catalog
from mdebench.methods.contract import Method
from mdebench.suite.inventory.checking import METHOD, PROTOCOL, batch_at, trainer_of
from mdebench.training.operations import Operations

NAMES = list(catalog.own_methods())
TRAINED = [name for name in NAMES if trainer_of(catalog.method(name)).players]


@pytest.mark.parametrize("check", METHOD)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_keeps_the_contract(name, check):
    METHOD[check](catalog.method(name))


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_method_names_its_paper(name):
    assert re.search(r"\d{4}$", catalog.method(name).load().Method.PAPER)


@pytest.mark.parametrize("name", TRAINED)
def test_counting_operations_changes_no_bit(name):
    """In bf16, where the kernels that run under the counter round otherwise than those that run without it."""
    ours, theirs = (trainer_of(catalog.method(name), "bf16") for _ in range(2))
    counts = Operations()
    for step in (0, 5, 9):  # of ten, so that the phases of a run have other turns
        counts.update(ours, batch_at(step, ours.method))
        theirs.update(batch_at(step, theirs.method))
    assert all(gflop > 0 for gflop in counts.gflop.values())
    state, other = ours.method.state_dict(), theirs.method.state_dict()
    assert all(torch.equal(state[key], other[key]) for key in other)


@pytest.mark.parametrize("check", [title for title in PROTOCOL if not title.startswith("it measures")])
@pytest.mark.parametrize("name", catalog.own_protocols())
def test_every_protocol_says_what_it_must(name, check):
    PROTOCOL[check](catalog.own_protocols()[name])


def test_all_turns_of_a_long_run_ask_for_the_players_once():
    """They are looked through before a run begins, and a player's weights may take a while to collect."""
    asked = []

    class Counted(Method):
        def players(self):
            asked.append(1)
            return {"first": None, "second": None}

    method = Counted(None, 8)
    assert {method.turns(step, 1000) for step in range(1000)} == {("first", "second")} and len(asked) == 1
