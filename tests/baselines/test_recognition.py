"""Recognition: the loss by hand, what is done to images on a ramp, and the judge's own network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from mdebench.baselines.recognition import Method, Settings, rise_and_fall
from mdebench.errors import UserError
from mdebench.evaluation.judging import own_judge
from mdebench.methods.contract import Batch, Beside
from mdebench.training.recipes import make_recipe

SIZE = 32


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 2, "code": 8, "identities": 4} | values)), size)


def batch(images, people):
    beside = Beside({"identity": np.array(people, np.int32)}, lambda rows: images[rows])
    return Batch(images, torch.arange(len(images)), 0, 0, 0, torch.Generator().manual_seed(1), 10, given=beside)


def pictures(n=6, size=SIZE, dtype=torch.float64):
    """Random ones, without detail that a shift would lose."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return interpolate(coarse, size, mode="bilinear")


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_the_loss_is_the_cross_entropy_of_who_is_known(backbone):
    m, b = method(backbone=backbone).double().eval(), batch(pictures(), [3, -1, 0, 0, -1, 2])
    m.moved = lambda b: b.images
    with torch.no_grad():
        logits = m.head(m.encode(b.images)).tolist()
    known = [(row, who) for row, who in zip(logits, [3, -1, 0, 0, -1, 2]) if who >= 0]
    nats = [math.log(sum(math.exp(z) for z in row)) - row[who] for row, who in known]
    total, parts = m.loss("network", b)
    assert total.item() == pytest.approx(np.mean(nats)) and parts["identity"] == total
    assert parts["accuracy"].item() == pytest.approx(100 * np.mean([np.argmax(row) == who for row, who in known]))


def test_pictures_of_nobody_known_teach_nothing():
    m, b = method().double(), batch(pictures(), [-1] * 6)
    loss = m.loss("network", b)
    loss.total.backward()
    assert loss.total == 0 and not any(p.grad.any() for p in m.parameters())


def test_images_are_moved_within_bounds_and_one_in_two_is_mirrored():
    """On ramps from left to right and from top to bottom the movement can be read off, away from the borders."""
    ramp = torch.arange(SIZE, dtype=torch.float64) / SIZE
    across, down = ramp.expand(SIZE, SIZE), ramp[:, None].expand(SIZE, SIZE)
    images = torch.stack([across, down, torch.zeros_like(across)]).expand(400, 3, SIZE, SIZE)
    moved = method(shift=0.06, zoom=0.1).double().moved(batch(images, [0] * 400))
    inner = moved[:, :, 12:20, 12:20]
    slope = SIZE * (inner[:, 0, 0, -1] - inner[:, 0, 0, 0]) / 7
    upright = SIZE * (inner[:, 1, -1, 0] - inner[:, 1, 0, 0]) / 7
    torch.testing.assert_close(slope.abs(), upright)  # nothing is stretched, nor upside down
    assert upright.min() > 0.9 - 1e-9 and upright.max() < 1.1 + 1e-9 and upright.std() > 0.04
    assert 150 < (slope < 0).sum() < 250
    centre = inner[:, :2].mean(dim=(2, 3)) - ramp.mean()
    assert centre.abs().max() < 0.06 + 1e-9 and (centre.std(dim=0) > 0.02).all()
    assert not moved[:, 2].any()


def test_without_room_to_move_images_are_themselves_or_their_mirror_images():
    images = pictures(8)
    moved = method(shift=0, zoom=0).double().moved(batch(images, [0] * 8))
    same = [torch.allclose(ours, own) for ours, own in zip(moved, images)]
    mirrored = [torch.allclose(ours, own.flip(2)) for ours, own in zip(moved, images)]
    assert all(a != b for a, b in zip(same, mirrored)) and any(same) and any(mirrored)


def test_a_part_of_a_batch_is_moved_as_in_the_whole():
    m, images = method().double(), pictures(4)
    whole = m.moved(batch(images, [0] * 4))
    for part in range(2):
        own = slice(2 * part, 2 * part + 2)
        half = replace(batch(images, [0] * 4), images=images[own], part=part, parts=2)
        torch.testing.assert_close(m.moved(half), whole[own])


def test_the_network_is_the_judges(pack):
    lesson = own_judge.make_lesson(pack)
    judge = own_judge.Method(own_judge.Settings(), SIZE, lesson).classifier
    ours = method(width=own_judge.Settings().width)
    theirs = {k: v for k, v in judge.network.state_dict().items() if not k.startswith("fc.")}
    ours.encoder.network.load_state_dict(theirs)
    with torch.no_grad():
        images = pictures(2, dtype=torch.float32)
        torch.testing.assert_close(ours.eval().encode(images), judge.eval()(images).features)
    rates = [rise_and_fall(step / 50) for step in range(50)]
    assert rates == [own_judge._rise_and_fall(step / 50) for step in range(50)]


def test_four_people_are_learned_by_heart():
    """Six pictures of each, which differ in brightness and contrast."""
    faces, draws = pictures(4, dtype=torch.float32), torch.Generator().manual_seed(2)
    light = 0.7 + 0.3 * torch.rand(6, 4, 1, 1, 1, generator=draws)
    b = batch((light * faces).flatten(0, 1), list(range(4)) * 6)
    m = method(width=8)
    optimizer = torch.optim.Adam(m.players()["network"].parameters, 5e-3)
    for _ in range(25):
        loss = m.loss("network", b)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.parts["accuracy"] > 90


@pytest.mark.parametrize("size", [8, 16, 100])
def test_any_size_is_encoded(size):
    m, images = method(size).eval(), pictures(2, size, torch.float32)
    with torch.no_grad():
        assert m.encode(images).shape == (2, m.feature_dim) and m.feature_dim == 16
        assert [each.shape[1] for each in m.stages(images).values()] == [2, 4, 8, 16]
        torch.testing.assert_close(m.stages(images)["stage4"].mean(dim=(2, 3)), m.encode(images))


def test_the_mde_may_take_its_place():
    m = method(backbone="mde").eval()
    with torch.no_grad():
        assert m.encode(torch.zeros(2, 3, SIZE, SIZE)).shape == (2, 8) and m.feature_dim == 8
    with pytest.raises(UserError, match="Choose among: native, mde"):
        Settings(backbone="judge")


def test_a_pack_decides_how_many_people_there_are(pack):
    train = pack.indices("train")
    assert make_recipe("recognition", pack, "tiny", 0, {}).settings["identities"] == pack.identity[train].max() + 1
    nobody = replace(pack, identity=np.full_like(pack.identity, -1))
    with pytest.raises(UserError, match="recognition cannot learn from the pack toyfaces16: it learns from identity"):
        make_recipe("recognition", nobody, "tiny", 0, {})
