"""The attentive probe: a slow reference, what a mean of tokens cannot tell, and a recipe that draws the same again."""

import math

import numpy as np
import pytest
import torch
from mocks import COUNT, Oracle, make_pack, measured, numbered

from mdebench.errors import UserError
from mdebench.evaluation.readouts import ALPHAS, Partition, Task, ridge
from mdebench.evaluation.tasks import mean_error
from mdebench.protocols import attentive

CPU = torch.device("cpu")


def test_answers_are_those_of_a_slow_reference_in_double_precision():
    rng = np.random.default_rng(1)
    mean, scale, centre, spread = (rng.normal(size=n).astype(np.float32) for n in (5, 5, 2, 2))
    probe = attentive.AttentiveProbe(3, *(torch.from_numpy(x) for x in (mean, scale, centre, spread)))
    torch.nn.init.normal_(probe.linear.weight)
    torch.nn.init.normal_(probe.linear.bias)
    tokens = rng.normal(size=(4, 6, 5)).astype(np.float16)
    queries, weight, bias = (
        x.detach().double().numpy() for x in (probe.queries, probe.linear.weight, probe.linear.bias)
    )
    expected = np.zeros((4, 2))
    for n in range(4):
        x = [(tokens[n, t].astype(float) - mean) * scale for t in range(6)]
        pooled = []
        for q in queries:
            weights = [math.exp(sum(q[c] * x[t][c] for c in range(5)) / math.sqrt(5)) for t in range(6)]
            pooled += [sum(weights[t] * x[t][c] for t in range(6)) / sum(weights) for c in range(5)]
        expected[n] = (weight @ np.array(pooled) + bias) * spread + centre
    np.testing.assert_allclose(attentive.answers(probe, tokens, CPU), expected, rtol=1e-4, atol=1e-4)


def scattered(count=1200):
    """Tokens of which one, anywhere, is marked, and a label that its content's sign tells; the others' content is
    noise."""
    rng = np.random.default_rng(2)
    tokens = np.zeros((count, 16, 4), np.float16)
    tokens[:, :, 1] = 3 * rng.normal(size=(count, 16))
    label = rng.random(count) < 0.5
    place = rng.integers(0, 16, count)
    tokens[np.arange(count), place, :2] = np.stack([np.full(count, 4), np.where(label, 1, -1)], 1)
    return tokens, label[:, None].astype(np.float32)


def test_the_content_of_a_patch_at_a_random_place_is_found_where_a_mean_cannot():
    tokens, label = scattered()
    rows = np.arange(1200)
    task = Task(label, Partition(rows[:800], rows[800:1000]), rows[1000:], mean_error)
    settings = attentive.Settings(draws=2)  # the recipe as it is
    predictions, note = attentive.attended(tokens, rows, task, settings, (0,), CPU)
    assert max(mean_error(drawn, label[1000:]) for drawn in predictions) < 3
    assert "chosen on 200 images" in note
    pooled = tokens.mean(axis=1, dtype=np.float32)
    by_mean = [
        mean_error(probe(pooled[1000:]), label[1000:]) for probe in ridge(pooled[:800], label[:800], ALPHAS, CPU)
    ]
    assert min(by_mean) > 30


class Mapped(Oracle):
    """Its map of 2×2 knows the labels, its code nothing."""

    def __init__(self, labels):
        super().__init__(np.ones((COUNT, 1)))
        self.known = torch.tensor(labels, dtype=torch.float32)

    def stages(self, images):
        number = (images[:, 0, 0, 0] * 255).round().long()
        return {"stage1": self.known[number][:, :, None, None].expand(-1, -1, 2, 2)}


def test_a_map_of_the_labels_is_read_and_draws_are_told_apart(tmp_path):
    labels = np.random.default_rng(5).random((COUNT, 2)) < 0.5
    pack, how = make_pack(numbered(), labels=labels), {"updates": 100, "queries": 2}
    state = torch.random.get_rng_state()
    row = measured(attentive, Mapped(labels), pack, tmp_path, **how)["attentive", "test", "attribute_error"]
    assert row.value == 0
    assert "3 draws of the probe: 0.00, 0.00, 0.00 (standard deviation 0.00" in row.note
    assert "4 tokens of 2 channels" in row.note
    assert torch.equal(state, torch.random.get_rng_state())
    again = measured(attentive, Mapped(labels), pack, tmp_path, **how)["attentive", "test", "attribute_error"]
    assert again == row


def test_a_method_without_stages_and_settings_that_make_no_sense_are_refused(tmp_path):
    labels = np.random.default_rng(5).random((COUNT, 2)) < 0.5
    with pytest.raises(UserError, match="no stages"):
        measured(attentive, Oracle(labels), make_pack(numbered(), labels=labels), tmp_path)
    with pytest.raises(UserError, match="at least 1"):
        attentive.Settings(queries=0)
