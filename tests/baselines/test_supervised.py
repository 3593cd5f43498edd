"""Supervised rows: losses by hand, unknown labels, which task reaches what, and orders of layers one step at a time."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdebench.baselines import multi_task, parallel_order, single_task, soft_order
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Beside
from mdebench.training.recipes import make_recipe

SIZE, TASKS, PEOPLE = 16, 3, 4
ROWS = {
    "single_task": single_task,
    "multi_task": multi_task,
    "parallel_order": parallel_order,
    "soft_order": soft_order,
}
ORDERS = {"parallel_order": parallel_order, "soft_order": soft_order}
BOTH = {"landmarks": True, "identity": True, "identities": PEOPLE}


def method(module, size=SIZE, **values):
    torch.manual_seed(0)
    small = {"width": 2, "code": 9, "attributes": TASKS} | ({"units": 6} if "order" in module.__name__ else {})
    return module.Method(module.Settings(**(small | values)), size)


def batch(n=6, dtype=torch.float64, **changed):
    """Random images and labels, some of them unknown; every second image has landmarks and is somebody."""
    rng = np.random.default_rng(0)
    given = {
        "attributes": rng.integers(-1, 2, (n, TASKS)).astype(np.int8),
        "landmarks": rng.random((n, 5, 2), np.float32),
        "identity": rng.integers(0, PEOPLE, n).astype(np.int32),
    } | changed
    if not changed:
        given["attributes"][:, 0] = [-1, 1, -1, 1, 0, 1][:n]
        given["landmarks"][1::2], given["identity"][1::2] = np.nan, -1
    images = torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0), dtype=dtype)
    beside = Beside(given, lambda rows: images[rows])
    return Batch(images, torch.arange(n), 0, 0, 0, torch.Generator().manual_seed(0), 10, given=beside)


def by_hand(answers, b):
    """The loss and its parts in Python's own numbers, one label after the other."""
    said = [answer.tolist() for answer in answers]
    labels = b.given.arrays
    parts, wrong = [], []
    for task in range(TASKS):
        known = [(said[task][n][0], y) for n, y in enumerate(labels["attributes"][:, task].tolist()) if y >= 0]
        parts.append(sum((x - y) ** 2 for x, y in known) / len(known))
        wrong.append(100 * sum((x > 0.5) != y for x, y in known) / len(known))
    found = {"attributes": sum(parts) / TASKS, "error": sum(wrong) / TASKS}
    truth = labels["landmarks"].reshape(-1, 10).astype(float)
    errors = [
        sum((x - 10 * (y - 0.5)) ** 2 for x, y in zip(said[TASKS][n], row)) / 10
        for n, row in enumerate(truth.tolist())
        if not math.isnan(row[0])
    ]
    found["landmarks"] = sum(errors) / len(errors)
    nats = [
        math.log(sum(math.exp(z) for z in said[TASKS + 1][n])) - said[TASKS + 1][n][y]
        for n, y in enumerate(labels["identity"].tolist())
        if y >= 0
    ]
    found["identity"] = sum(nats) / len(nats)
    return (sum(parts) + found["landmarks"] + found["identity"]) / (TASKS + 2), found


# Losses


@pytest.mark.parametrize("name", ["multi_task", *ORDERS])
def test_every_task_counts_the_same_and_the_known_labels_alone(name):
    m, b = method(ROWS[name], **BOTH).double().eval(), batch()
    total, parts = m.loss("network", b)
    expected, found = by_hand(m.answers(b.images), b)
    assert {k: v.item() for k, v in parts.items()} == pytest.approx(found)
    assert total.item() == pytest.approx(expected)
    assert m.losses == "squared error, cross-entropy"


@pytest.mark.parametrize("name", ROWS)
def test_without_a_label_nothing_is_learned(name):
    nothing = {"attributes": np.full((6, TASKS), -1, np.int8), "landmarks": np.full((6, 5, 2), np.nan, np.float32)}
    b = batch(**nothing, identity=np.full(6, -1, np.int32))
    m = method(ROWS[name], **({} if name == "single_task" else BOTH)).double()
    loss = m.loss("network", b)
    loss.total.backward()
    assert loss.total == 0 and all(part == 0 for part in loss.parts.values())
    assert all(p.grad is None or not p.grad.any() for p in m.parameters())


def test_parts_of_a_batch_come_to_the_loss_of_the_whole(monkeypatch):
    """However unevenly the known labels are shared out: counts are means over the processes, as the loop's losses."""
    m, b = method(multi_task).double().eval(), batch()
    whole = m.loss("network", b)
    known = torch.from_numpy(b.given.arrays["attributes"] >= 0).double().sum(dim=0)
    assert (known[0], (b.given.arrays["attributes"][:3, 0] >= 0).sum()) == (4, 1)
    monkeypatch.setattr(Batch, "mean", lambda self, value: known / 2)
    halves = [
        m.loss("network", replace(b, images=b.images[own], index=b.index[own], part=part, parts=2))
        for part, own in enumerate((slice(0, 3), slice(3, 6)))
    ]
    assert sum(half.total for half in halves).item() / 2 == pytest.approx(whole.total.item())
    assert sum(half.parts["error"] for half in halves).item() / 2 == pytest.approx(whole.parts["error"].item())


@pytest.mark.parametrize("name", ROWS)
def test_losses_have_full_precision(name):
    m, b = method(ROWS[name]), batch(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert m.loss("network", b).total.dtype == torch.float32
    assert m.double().loss("network", batch()).total.dtype == torch.float64


@pytest.mark.parametrize("name", ROWS)
def test_labels_are_learned_by_heart(name):
    m = method(ROWS[name], width=4, code=24, **({"units": 32} if name in ORDERS else {}))
    b = batch(dtype=torch.float32, attributes=np.array([[0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]] * 2, np.int8)[:6])
    optimizer = torch.optim.Adam(m.players()["network"].parameters, 3e-3)
    for _ in range(120):
        loss = m.loss("network", b)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.parts["error"] == 0 and loss.total < 0.1


# Networks


def test_a_network_learns_from_its_own_attribute_alone():
    m = method(single_task)
    images = batch(dtype=torch.float32).images
    for task, answer in enumerate(m.answers(images)):
        for other, encoder in enumerate(m.encoders):
            slopes = torch.autograd.grad(answer.sum(), list(encoder.parameters()), retain_graph=True, allow_unused=True)
            assert all((slope is not None) == (task == other) for slope in slopes)


def test_networks_of_their_own_cost_as_much_as_one_together_unless_a_width_is_asked_for():
    def convolutions(m):
        return sum(p.numel() for p in m.parameters() if p.ndim == 4)

    with torch.device("meta"):
        together = single_task.Method(single_task.Settings(), 96)
        one = multi_task.Method(multi_task.Settings(), 96)
        wide = single_task.Method(single_task.Settings(task_width=64, attributes=2), 96)
    assert together.feature_dim == one.feature_dim == 4000
    assert 0.9 < convolutions(together) / convolutions(one) < 1.1
    assert sum(p.numel() for p in together.parameters()) < sum(p.numel() for p in one.parameters())
    assert convolutions(wide) == 2 * convolutions(one)


def test_codes_and_maps_of_all_networks_stand_side_by_side():
    m = method(single_task).eval()
    images = batch(dtype=torch.float32).images
    with torch.no_grad():
        codes, maps = m.encode(images), m.stages(images)
        for task, encoder in enumerate(m.encoders):
            assert torch.equal(codes[:, 3 * task : 3 * (task + 1)], encoder(images)[0])
        assert [tuple(each.shape[1:]) for each in maps.values()] == [(TASKS, 8, 8), (2 * TASKS, 4, 4)]


def numbers(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


@pytest.mark.parametrize("name", ORDERS)
def test_orders_one_step_at_a_time(name):
    """Equation (7) for one image, one task, one depth and one layer after the other; of parallel order, s is 1 or 0."""
    m, b = method(ORDERS[name], depth=3, **BOTH).double().eval(), batch(2)
    if name == "soft_order":
        torch.nn.init.normal_(m.scales)
        logits = m.scales.detach().numpy()
        s = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    else:
        s = np.broadcast_to(np.eye(3), (TASKS + 2, 3, 3))
    layers, (project, shift) = [numbers(layer) for layer in m.layers], numbers(m.project)
    with torch.no_grad():
        codes, answers = m.encode(b.images).numpy(), m.answers(b.images)
    for n in range(2):
        for task in range(TASKS + 2):
            y = project @ codes[n] + shift
            for depth in range(3):
                y = sum(s[task, depth, j] * np.maximum(w @ y + c, 0) for j, (w, c) in enumerate(layers))
            weight, bias = numbers(m.heads[task])
            assert answers[task][n].numpy() == pytest.approx(weight @ y + bias)


def test_soft_order_begins_with_equal_shares_and_learns_them():
    m, b = method(soft_order).double(), batch()
    assert m.scales.softmax(dim=2).eq(1 / 4).all()
    m.loss("network", b).total.backward()
    assert (m.scales.grad.abs().amax(dim=(1, 2)) > 0).all()
    assert m.scales.grad.sum(dim=2).abs().max() < 1e-12  # shares go on to sum to one


def test_a_soft_order_may_be_the_parallel_one():
    soft, parallel = (method(module).double().eval() for module in (soft_order, parallel_order))
    parallel.load_state_dict({k: v for k, v in soft.state_dict().items() if k != "scales"})
    with torch.no_grad():
        soft.scales.copy_(100 * torch.eye(4))
        for ours, theirs in zip(soft.answers(batch().images), parallel.answers(batch().images)):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["multi_task", *ORDERS])
def test_the_code_is_the_encoders_whatever_stands_above_it(name):
    m = method(ROWS[name]).eval()
    images = batch(dtype=torch.float32).images
    with torch.no_grad():
        code = m.encode(images)
        for p in [*m.heads.parameters(), *getattr(m, "layers", m.heads).parameters()]:
            p.normal_()
        assert torch.equal(m.encode(images), code) and code.shape == (6, 9)
        assert torch.equal(code, m.encoder(images)[0])


def test_another_encoder_may_stand_below():
    m, images = method(multi_task, 32, encoder="timm:resnet10t").eval(), torch.zeros(2, 3, 32, 32)
    with torch.no_grad():
        assert m.encode(images).shape == (2, 9) and m.stages(images)["stage3"].shape == (2, 128, 4, 4)


# Packs


def test_a_pack_decides_the_outputs():
    known = {"attributes": 7, "landmarks": 0, "identity": 30}
    plain = multi_task.Method.suited(multi_task.Settings(), known)
    assert plain.attributes == 7
    more = multi_task.Method.suited(multi_task.Settings(identity=True), known)
    m = multi_task.Method(replace(more, width=2, code=4), SIZE)
    assert [head.out_features for head in m.heads] == [1] * 7 + [30]


@pytest.mark.parametrize(
    "settings, lost, message",
    [
        ({"landmarks": "true"}, {"landmarks": np.nan}, "multi_task cannot learn from the pack .* from landmarks, and"),
        ({"identity": "true"}, {"identity": -1, "landmarks": np.nan}, "learns from identity, and the pack has no"),
        ({"landmarks": "true", "identity": "true"}, {"identity": -1, "landmarks": np.nan}, "landmarks and identity"),
        ({}, {"attributes": -1}, "learns from attributes, and the pack has no training images with any"),
    ],
)
def test_packs_that_lack_what_is_asked_for_are_refused(pack, settings, lost, message):
    poorer = replace(pack, **{name: np.full_like(getattr(pack, name), value) for name, value in lost.items()})
    with pytest.raises(UserError, match=message):
        make_recipe("multi_task", poorer, "tiny", 0, settings)


def test_what_is_not_asked_for_may_be_lacking(pack):
    poorer = replace(pack, landmarks=np.full_like(pack.landmarks, np.nan), identity=np.full_like(pack.identity, -1))
    assert make_recipe("soft_order", poorer, "tiny", 0, {}).settings["attributes"] == 40
