"""DINO: loss, centre and teacher against a slow version; who sees which crops; temperatures; encoders for two sizes."""

import math
from dataclasses import replace

import pytest
import torch

from mdebench.baselines.dino import Method, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.methods.networks import Encoder
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

UPDATES = 10


def batch(images, step=0):
    return Batch(images, torch.arange(len(images)), step, 0, 0, torch.Generator().manual_seed(step), UPDATES)


def method(size=16, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 1, "code": 8, "crops": 3} | values)), size)


def pictures(n=3, size=16):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trainer_of(m):
    return Trainer(m, Recipe("dino", "dino", {}, "", 16, "", "", 0, UPDATES, 3, "fp64", {}), torch.device("cpu"))


def softmax(row):
    top = max(row)
    e = [math.exp(x - top) for x in row]
    total = sum(e)
    return [x / total for x in e]


def slow_loss(taught, learned, centre, temperature):
    """Teacher's and student's numbers by view and image, as lists; the paper's Algorithm 1 with small crops."""
    total, terms = 0.0, 0
    for view, teacher in enumerate(taught):
        for other, student in enumerate(learned):
            if view != other:
                terms += 1
                for t, s in zip(teacher, student):
                    wanted = softmax([(a - c) / temperature for a, c in zip(t, centre)])
                    found = softmax([b / 0.1 for b in s])
                    total -= sum(w * math.log(f) for w, f in zip(wanted, found)) / len(teacher)
    return total / terms


def test_loss_centre_and_teacher_are_those_of_a_slow_version():
    m = method(momentum=0.7, lr=0.01, centre_momentum=0.8, heating=0.4)
    trainer, images = trainer_of(m), pictures()
    taught, learned = [], []
    m.target.register_forward_hook(lambda _, __, found: taught.extend(found.detach().split(3)))
    m.online.register_forward_hook(lambda _, __, found: learned.extend(found.detach().split(3)))
    centre = [0.0] * 1024
    slow = {name: p.detach().clone() for name, p in m.online.named_parameters()}
    for step in range(4):
        fast = {name: p.detach().clone() for name, p in m.online.named_parameters()}
        if step:  # the student of after the last update, whose number is step − 1
            momentum = 1 - (1 - 0.7) * (math.cos(math.pi * (step - 1) / UPDATES) + 1) / 2
            slow = {name: momentum * slow[name] + (1 - momentum) * fast[name] for name in slow}
        taught.clear(), learned.clear()
        found = trainer.update(batch(images, step))["network/cross_entropy"].item()
        numbers = [[each.tolist() for each in views] for views in (taught, learned)]
        assert [len(views) for views in numbers] == [2, 2 + 3]
        temperature = 0.04 + (0.07 - 0.04) * step / UPDATES / 0.4
        assert found == pytest.approx(slow_loss(*numbers, centre, temperature), rel=1e-9)
        rows = [row for view in numbers[0] for row in view]
        centre = [0.8 * c + 0.2 * sum(column) / len(rows) for c, column in zip(centre, zip(*rows))]
        torch.testing.assert_close(m.centre, torch.tensor(centre, dtype=torch.float64), rtol=0, atol=1e-12)
        for name, value in m.target.named_parameters():
            torch.testing.assert_close(value.detach(), slow[name], rtol=0, atol=1e-12)
    assert any((value - fast[name]).abs().max() > 1e-3 for name, value in slow.items())


def test_the_teacher_sees_large_crops_alone_and_learns_nothing():
    m = method().double()
    seen = {"teacher": [], "student": []}
    m.target.register_forward_hook(lambda _, views, __: seen["teacher"].append(views[0]))
    m.online.register_forward_hook(lambda _, views, __: seen["student"].append(views[0]))
    m.loss("network", batch(pictures())).total.backward()
    assert [tuple(each.shape) for each in seen["teacher"]] == [(6, 3, 16, 16)]
    assert [tuple(each.shape) for each in seen["student"]] == [(6, 3, 16, 16), (9, 3, 8, 8)]
    assert torch.equal(seen["teacher"][0], seen["student"][0])
    assert all(p.grad is None for p in m.target.parameters())
    moved = {id(p) for p in m.players()["network"].parameters}
    assert moved == {id(p) for p in m.online.parameters()} and all(p.grad is not None for p in m.online.parameters())


def test_outputs_are_cosines_to_prototypes_also_in_mixed_precision():
    m = method()
    with torch.no_grad():
        for bf16 in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                found = m.online(torch.rand(4, 3, 16, 16))
            assert found.shape == (4, 1024) and found.dtype == torch.float32 and found.abs().max() <= 1 + 1e-5
        m.online.head.prototypes.mul_(7)
        images = torch.rand(4, 3, 16, 16)
        length = m.online.head.layers(m.online.backbone(images)).norm(dim=1, keepdim=True)
        direction = m.online.head.prototypes / m.online.head.prototypes.norm(dim=1, keepdim=True)
        expected = m.online.head.layers(m.online.backbone(images)) / length @ direction.T
        torch.testing.assert_close(m.online(images), expected)


def test_the_teachers_temperature_rises_and_stays():
    m = method()
    assert [m.temperature(p) for p in (0, 0.05, 0.1, 0.9)] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert method(heating=0.0).temperature(0.0) == 0.07


def test_heads_have_the_papers_size_at_width_64():
    with torch.device("meta"):
        m = method(16, width=64, code=384)
    layers = 385 * 2048 + 2049 * 2048 + 2049 * 256
    assert sum(p.numel() for p in m.online.head.parameters()) == layers + 65_536 * 256 and m.centre.shape == (65_536,)


def test_the_teachers_code_is_kept():
    m = method().double()
    images = pictures()
    before = m.eval().encode(images)
    for p in m.online.parameters():
        p.detach().zero_()
    assert torch.equal(m.encode(images), before) and before.abs().sum() > 0


@pytest.mark.parametrize("size", [16, 24])
def test_the_mdes_encoder_takes_small_crops_too_and_whole_images_as_ever(size):
    m = method(size).eval()
    torch.manual_seed(0)
    theirs = Encoder(size, 1, 8).eval()
    with torch.no_grad():
        images, small = torch.rand(2, 3, size, size), torch.rand(2, 3, size // 2, size // 2)
        torch.testing.assert_close(m.encode(images), theirs(images)[0])
        last = theirs.trunk(small)[0]
        if size == 16:  # 2×2 → 4×4: each place four times
            enlarged = last.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        else:  # 2×2 → 3×3: the middle is the mean of its neighbours
            mix = torch.tensor([[1, 0], [0.5, 0.5], [0, 1]])
            enlarged = mix @ last @ mix.T
        torch.testing.assert_close(m.encode(small), theirs.to_code(enlarged.flatten(1)))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_a_network_of_timm_takes_both_sizes(name):
    m = method(32, encoder=f"timm:{name}", crops=1)
    m.loss("network", batch(torch.rand(2, 3, 32, 32))).total.backward()
    assert all(p.grad.isfinite().all() for p in m.online.parameters())
    assert m.eval().encode(torch.rand(2, 3, 32, 32)).shape == (2, m.feature_dim)


def test_a_network_of_one_size_is_refused_by_name():
    with pytest.raises(UserError, match=r"timm's vit_tiny_patch16_224 takes no images of 8×8 pixels"):
        method(16, encoder="timm:vit_tiny_patch16_224")


def test_images_without_anything_in_them_have_a_finite_loss_and_gradient():
    for value in (0.0, 0.5, 1.0):
        m = method()
        m.loss("network", batch(torch.full((2, 3, 16, 16), value))).total.backward()
        assert all(p.grad.isfinite().all() for p in m.online.parameters())


def test_a_fixed_batch_is_learned_and_its_codes_stay_apart():
    """Once the centre has settled, before which teacher and student agree as they begin with the same weights."""
    images = (torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(16, 16)).double()
    temperatures = {"heating": 0.0, "last_temperature": 0.04}
    m = method(width=2, code=32, crops=1, lr=1e-3, momentum=0.9, warm_up=0.0, **temperatures)
    trainer = trainer_of(m)
    losses = [trainer.update(replace(batch(images, s), updates=100))["network/cross_entropy"].item() for s in range(60)]
    assert sum(losses[-10:]) / 10 < 0.85 * sum(losses[10:30]) / 20 < 0.85 * math.log(2048)
    codes = m.eval().encode(images)
    assert codes.std(dim=0).norm() > 0.1 * codes.norm(dim=1).mean()
