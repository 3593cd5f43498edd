"""Autoencoder: the Missing Data Encoder's network, all of whose output comes from the code, and nothing is missing."""

import pytest
import torch

from mdebench.baselines.autoencoder import Method, Settings
from mdebench.errors import UserError
from mdebench.methods import losses
from mdebench.methods.contract import Batch
from mdebench.methods.mde import Method as Mde
from mdebench.methods.mde import Settings as MdeSettings


def method(size=16, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 8} | values)), size)


def batch(n=6, size=16):
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.rand(n, 3, size, size, generator=generator), torch.arange(n), 0, 0, 0, generator, 10)


def test_its_network_is_the_encoders_own_without_skip_connections():
    settings = MdeSettings(width=4, code=8, losses="compl", perceptual="none", skips=())
    torch.manual_seed(0)
    theirs, ours = Mde(settings, 16).generator.state_dict(), method().generator.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    player, own = method().players()["network"], Mde(settings, 16).players()["generator"]
    assert (player.lr, player.options) == (own.lr, own.options)
    assert [player.schedule(p) for p in (0, 0.3, 1)] == [own.schedule(p) for p in (0, 0.3, 1)]


def test_what_comes_out_depends_on_the_code_alone():
    m, b = method().eval(), batch(2)
    code, skips = m.generator.encoder(b.images)
    other = [torch.rand_like(each) for each in skips]
    assert torch.equal(m.generator(b.images), m.generator.decoder(code, other))
    assert torch.equal(m.encode(b.images), code)


def test_its_error_is_equation_4_with_nothing_masked_less_a_factor():
    m, b = method(), batch()
    output = m.generator(b.images)
    of_the_paper = losses.reconstruction(output, b.images, torch.ones_like(b.images))
    torch.testing.assert_close(m.loss("network", b).total * b.images[0].numel(), of_the_paper)
    absolute = method(objective="l1")
    by_hand = sum(abs(a - c) for a, c in zip(output.flatten().tolist(), b.images.flatten().tolist())) / output.numel()
    assert absolute.loss("network", b).total.item() == pytest.approx(by_hand, rel=1e-5)
    assert (m.losses, absolute.losses, m.family(m.settings)) == ("l2", "l1", "reconstruction")


def test_what_it_cannot_be_is_told():
    with pytest.raises(UserError, match="objective"):
        Settings(objective="l3")
    with pytest.raises(UserError, match="20×20 pixels"):
        method(size=20)
