"""SimCLR: the loss against a slow one in float64, what is kept and what is thrown away, encoders, learning."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from mdebench.baselines.simclr import Method, Settings, nt_xent
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.methods.networks import Encoder
from mdebench.settings import build


def batch(images, step=0):
    return Batch(images, torch.arange(len(images)), step, 0, 0, torch.Generator().manual_seed(step), 50)


def method(size=16, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 2, "code": 8} | values)), size)


def slow_nt_xent(first, second, temperature):
    """By the paper's Algorithm 1, in which view 2k belongs to view 2k + 1."""
    z = [view for pair in zip(first.tolist(), second.tolist()) for view in pair]
    alike = [[sum(a * b for a, b in zip(v, w)) / math.hypot(*v) / math.hypot(*w) for w in z] for v in z]

    def loss(i, j):
        others = sum(math.exp(alike[i][k] / temperature) for k in range(len(z)) if k != i)
        return -math.log(math.exp(alike[i][j] / temperature) / others)

    return sum(loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k) for k in range(len(z) // 2)) / len(z)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_the_papers(temperature):
    first, second = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = nt_xent(normalize(first), normalize(second), batch(torch.zeros(5, 3, 16, 16)), temperature)
    assert found.item() == pytest.approx(slow_nt_xent(first, second, temperature), rel=1e-12)


def test_the_loss_of_a_batch_is_that_of_its_two_views_at_their_temperature():
    m, images = method(temperature=0.3).double(), torch.rand(4, 3, 16, 16, dtype=torch.float64)
    given = []
    m.online.register_forward_hook(lambda _, views, found: given.append((views[0], found)))
    total, parts = m.loss("network", batch(images))
    ((views, found),) = given
    assert views.shape == (8, 3, 16, 16) and not torch.equal(views[:4], views[4:])
    assert total.item() == pytest.approx(slow_nt_xent(found[:4], found[4:], 0.3), rel=1e-9)
    assert list(parts) == [m.losses] == ["nt_xent"]


def test_in_mixed_precision_the_loss_is_taken_in_float32():
    m, images = method(), torch.rand(4, 3, 16, 16)
    given = []
    m.online.register_forward_hook(lambda _, views, found: given.append(found.detach()))
    with torch.autocast("cpu", torch.bfloat16):
        total = m.loss("network", batch(images)).total
    assert total.dtype == given[0].dtype == torch.float32
    assert total.item() == pytest.approx(slow_nt_xent(given[0][:4], given[0][4:], 0.1), rel=1e-5)


def test_images_without_anything_in_them_have_a_finite_loss_and_gradient():
    for value in (0.0, 0.5, 1.0):
        m = method()
        m.loss("network", batch(torch.full((2, 3, 16, 16), value))).total.backward()
        assert all(p.grad.isfinite().all() for p in m.parameters())


def test_the_code_is_the_mdes_and_the_head_is_not_in_it():
    m = method(32, width=4).eval()
    torch.manual_seed(0)
    theirs, images = Encoder(32, 4, 8).eval(), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(m.encode(images), theirs(images)[0])
        assert {name: each.shape for name, each in m.stages(images).items()} == {
            name: each.shape for name, each in theirs.maps(images).items()
        }
    code = m.encode(images)
    used = torch.autograd.grad(code.sum(), list(m.online.head.parameters()), allow_unused=True)
    assert used == (None, None, None, None)


def test_heads_have_the_papers_size_at_width_64():
    head = method(32, width=64, code=2048).online.head
    assert sum(p.numel() for p in head.parameters()) == 2048 * 2048 + 2 * 2048 + 2048 * 128


@pytest.mark.parametrize(
    ("name", "size", "dim", "maps"),
    [
        ("resnet18", 32, 512, [(64, 16), (64, 8), (128, 4), (256, 2), (512, 1)]),
        ("vit_tiny_patch16_224", 32, 192, [(192, 2)] * 4),
    ],
)
def test_a_network_of_timm_in_the_encoders_place(name, size, dim, maps):
    m = method(size, encoder=f"timm:{name}").eval()
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        assert m.feature_dim == dim and m.encode(images).shape == (2, dim)
        assert [(each.shape[1], each.shape[2]) for each in m.stages(images).values()] == maps
        torch.testing.assert_close(m.encode(images), m.online.backbone.network(2 * images - 1))
    m.train().loss("network", batch(images)).total.backward()
    assert all(p.grad.isfinite().all() for p in m.parameters())


@pytest.mark.parametrize(
    ("size", "encoder", "message"),
    [
        (16, "resnet18", "there is mde and timm:NAME"),
        (16, "timm:resnet19", "Did you mean"),
        (24, "timm:vit_tiny_patch16_224", "24×24"),
        (20, "mde", "20×20"),
    ],
)
def test_what_cannot_be_is_refused(size, encoder, message):
    with pytest.raises(UserError, match=message):
        method(size, encoder=encoder)


def test_jitter_that_would_turn_colours_negative_is_refused():
    assert build(Settings, {"strength": "1.25"}).strength == 1.25
    with pytest.raises(UserError, match=r"strength=1.3: beyond 1.25"):
        build(Settings, {"strength": "1.3"})


def test_a_batch_of_one_has_nothing_to_be_told_from():
    with pytest.raises(UserError, match="batch=2 or more"):
        method().loss("network", batch(torch.rand(1, 3, 16, 16)))


def test_a_fixed_batch_is_learned():
    """Faces of one colour each: which is which is easy to tell, less so at first."""
    images = torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(16, 16)
    m = method(width=4, code=32, strength=0.1)
    optimizer = torch.optim.Adam(m.players()["network"].parameters, 3e-3)
    losses = []
    for step in range(40):
        total = m.loss("network", batch(images, step)).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert sum(losses[-5:]) / 5 < 0.6 * sum(losses[:5]) / 5 < 0.6 * 2 * math.log(15)
