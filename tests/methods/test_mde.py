"""The game of equations (7)–(9): who moves which way, what is drawn when, and what is never swapped silently."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.vgg import cfgs, make_layers

from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.methods.losses import hide_and_seek
from mdebench.methods.mde import Method, Settings
from mdebench.methods.perceptual import load_perceptual

SMALL = {"width": 4, "code": 8, "perceptual": "none", "losses": "compl+adv+hns_coord"}


def batch(step=0, epoch=0, n=6, size=32, dtype=torch.float32):
    generator = torch.Generator().manual_seed(step)
    return Batch(
        torch.rand(n, 3, size, size, generator=generator, dtype=dtype), torch.arange(n), step, epoch, 0, generator, 10
    )


def method(**values):
    torch.manual_seed(0)
    return Method(Settings(**(SMALL | values)), 32).eval()  # eval: batch-norm constants keep the game still


def moved(m, player, loss, lr):
    """One plain gradient step of length lr of one player on one loss."""
    parameters = m.players()[player].parameters
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    length = torch.cat([g.flatten() for g in gradients]).norm()
    for p, g in zip(parameters, gradients):
        p.data -= lr * g / length


def test_the_discriminator_moves_towards_the_true_boxes():
    m, b = method().double(), batch(dtype=torch.float64)
    fake, _, boxes = m._complete_batch(b)
    before = hide_and_seek(boxes, m.discriminator(fake.detach())[1])
    moved(m, "discriminator", before, 1e-3)
    assert hide_and_seek(boxes, m.discriminator(fake.detach())[1]) < before


def test_the_generator_moves_the_guess_towards_its_claim():
    m, b = method().double(), batch(dtype=torch.float64)
    seen = m.draw_seen(b).double()
    claim = m.claimed_boxes(b)

    def guess():
        return hide_and_seek(claim, m.discriminator(m.generator(b.images * seen))[1])

    before = guess()
    moved(m, "generator", before, 1e-2)
    assert guess() < before


def test_each_turn_gives_gradients_to_its_own_player_only():
    m, b = method(), batch()
    for player, other in (("discriminator", "generator"), ("generator", "discriminator")):
        m.zero_grad()
        loss = m.loss(player, b)
        loss.total.backward(inputs=m.players()[player].parameters)
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)


def test_totals_are_the_weighted_sums_of_equation_9():
    m, b = method(adv_weight=0.5, hns_weight=0.25), batch()
    total, parts = m.loss("discriminator", b)
    assert total.item() == pytest.approx(0.5 * parts["adv"].item() + 0.25 * parts["seek"].item(), rel=1e-5)
    total, parts = m.loss("generator", b)
    expected = parts["rec"] + parts["compl"] + 0.5 * parts["adv"] + 0.25 * parts["hide"]
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_real_images_take_no_part_in_hide_and_seek():
    """The seek loss stays the same whatever the real images' boxes would be: only completions are sought in."""
    m, b = method(), batch()
    fake, _, boxes = m._complete_batch(b)
    seek = m._seek(b, fake.detach(), boxes).parts["seek"]
    assert torch.equal(seek, hide_and_seek(boxes, m.discriminator(fake.detach())[1]))


def test_claimed_boxes_are_drawn_once_per_epoch_image_and_channel():
    m = method()
    first, again, later = m.claimed_boxes(batch(0, 0)), m.claimed_boxes(batch(7, 0)), m.claimed_boxes(batch(9, 1))
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert (first[:, 0] != first[:, 1]).any() and (first[0] != first[1]).any()


@pytest.mark.parametrize("variant", ["inpainting", "reverse_inpainting", "colorization1", "colorization2"])
def test_a_box_that_never_moves_is_not_sought_and_it_is_said(variant):
    m = method(variant=variant, S=None if "color" in variant else 0.25)
    assert m.losses == "compl+adv" and "hide-and-seek left out" in m.notes[0]


def test_without_an_adversary_there_is_no_discriminator():
    m = method(losses="compl")
    assert m.turns(0, 10) == ("generator",) and m.discriminator is None


def test_vgg_loss_reads_a_random_network_by_seed():
    m = method(losses="vgg+adv", perceptual="random:3")
    assert m.perceptual == "vgg16-random:3"
    parts = m.loss("generator", batch()).parts
    assert "compl" not in parts and parts["vgg"].isfinite() and parts["vgg"] > 0
    assert not [name for name in m.state_dict() if "vgg" in name]


def test_perceptual_layers_are_torchvisions(tmp_path):
    """The same activations as torchvision's VGG-16 cut after relu1_2, relu2_2 and relu3_3."""
    torch.manual_seed(0)
    reference = make_layers(cfgs["D"])
    state = {f"features.{k}": v for k, v in reference.state_dict().items()}
    file = tmp_path / "vgg.safetensors"
    save_file({k: v for k, v in state.items() if int(k.split(".")[1]) <= 14}, file)
    network = load_perceptual(str(file))
    assert network.name.startswith("vgg16-relu3:") and network.weights == [1, 0.5, 0.25]
    images = torch.rand(2, 3, 32, 32)
    x = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    for cut, activation in zip((4, 9, 16), network(images)):
        torch.testing.assert_close(activation, reference[:cut](x))


def test_missing_perceptual_weights_name_three_ways_on(tmp_path):
    with pytest.raises(UserError, match=r"local weight file.*random.*perceptual=none"):
        load_perceptual(str(tmp_path / "nothing.safetensors"))
    with pytest.raises(UserError, match="needs a perceptual network"):
        method(losses="vgg+adv")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="is a text that begins with 'not"):
        load_perceptual(str(tmp_path / "bad.safetensors"))


def test_colorization_sees_whole_channels_when_encoding():
    m = method(variant="colorization2", S=None)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(m.encode(images), m.generator.encoder(images)[0]) and m.encode(images).shape == (2, 8)


def test_measuring_an_encoder_needs_no_perceptual_weights(tmp_path):
    """The file may be gone, or on another machine: it is read when training asks for it, and only then."""
    m = method(losses="vgg+adv", perceptual=str(tmp_path / "gone.safetensors"))
    assert m.encode(torch.rand(2, 3, 32, 32)).shape == (2, 8)
    with pytest.raises(UserError, match="nor a file that exists"):
        _ = m.perceptual
