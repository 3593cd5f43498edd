"""Each loss against a slow float64 reference written from its equation, pixel by pixel, in plain Python."""

import math

import pytest
import torch

from mdebench.errors import UserError
from mdebench.methods import losses as L


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    image, output = torch.rand(3, 3, 5, 4, generator=g), torch.rand(3, 3, 5, 4, generator=g)
    seen = (torch.rand(3, 3, 5, 4, generator=g) < 0.4).float()
    return image, output, seen


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def squared_norm(values):
    return sum(v * v for v in values)


def test_equation_1_and_2():
    real, fake = [1.5, -0.3, 0.0], [-2.0, 0.7, 3.0]
    n = len(real)
    expected = -sum(math.log(sigmoid(r)) + math.log(1 - sigmoid(f)) for r, f in zip(real, fake)) / n
    assert L.discriminator_adversarial(torch.tensor(real), torch.tensor(fake)).item() == pytest.approx(
        expected, rel=1e-5
    )
    expected = -sum(math.log(sigmoid(f)) for f in fake) / n
    assert L.generator_adversarial(torch.tensor(fake)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("loss", "inside"), [(L.completion, 0.0), (L.reconstruction, 1.0)])
def test_equations_3_and_4_sum_over_pixels_and_average_over_the_batch(data, loss, inside):
    image, output, seen = data
    total = 0.0
    for i in range(len(image)):
        pixels = zip(image[i].flatten().tolist(), output[i].flatten().tolist(), seen[i].flatten().tolist())
        total += squared_norm([(o - z) for z, o, m in pixels if m == inside])
    assert loss(output, image, seen).item() == pytest.approx(total / len(image), rel=1e-5)


def test_equation_5_weighs_layers_and_divides_by_their_sum():
    g = torch.Generator().manual_seed(1)
    shapes, weights = [(2, 4, 3, 3), (2, 5, 2, 2)], [1.0, 0.5]
    a = [torch.rand(s, generator=g) for s in shapes]
    b = [torch.rand(s, generator=g) for s in shapes]
    total = 0.0
    for layer in range(2):
        for i in range(2):
            total += weights[layer] * squared_norm((a[layer][i] - b[layer][i]).double().flatten().tolist())
    assert L.perceptual(a, b, weights).item() == pytest.approx(total / (2 * sum(weights)), rel=1e-5)


def test_equation_5_has_the_gradient_that_numerical_differentiation_finds():
    g = torch.Generator().manual_seed(2)
    a = [torch.rand(2, 3, 2, 2, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    b = [torch.rand(2, 3, 2, 2, generator=g, dtype=torch.float64) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda *layers: L.perceptual(list(layers), b, [1.0, 0.5]), a)


def test_equation_5_is_computed_in_float32_between_layers_in_bfloat16():
    a = torch.full((1, 1, 32, 32), 1.0, dtype=torch.bfloat16, requires_grad=True)
    b = torch.full((1, 1, 32, 32), 1.0 + 2**-7, dtype=torch.bfloat16)
    found = L.perceptual([a], [b], [1.0])
    found.backward()
    # 1024 squares of 2^-14, exactly: sums in bfloat16 stop growing at 256 of them.
    assert found.dtype == torch.float32 and found.item() == 1024 * 2**-14
    assert a.grad.dtype == torch.bfloat16 and (a.grad == -(2**-6)).all()


def test_equations_7_and_8_take_norms_that_are_not_squared():
    g = torch.Generator().manual_seed(2)
    boxes, predicted = torch.rand(2, 3, 4, generator=g), torch.rand(2, 3, 4, generator=g)
    total = 0.0
    for i in range(2):
        for c in range(3):
            total += math.sqrt(squared_norm((boxes[i, c].double() - predicted[i, c].double()).tolist()))
    assert L.hide_and_seek(boxes, predicted).item() == pytest.approx(total / 2, rel=1e-5)


def test_a_perfect_guess_has_no_loss_and_a_finite_gradient():
    boxes = torch.full((1, 3, 4), 0.5)
    predicted = boxes.clone().requires_grad_()
    L.hide_and_seek(boxes, predicted).backward()
    assert predicted.grad.isfinite().all()


@pytest.mark.parametrize("text", L.LOSS_SETS)
def test_the_loss_sets_of_figure_9(text):
    assert L.parse_losses(text) == frozenset(text.split("+"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compl+gan", "unknown terms"),
        ("adv", "exactly one of compl and vgg"),
        ("compl+vgg", "exactly one of compl and vgg"),
        ("compl+hns", "add adv"),
        ("compl+adv+hns+hns_coord", "choose one"),
    ],
)
def test_other_sets_are_refused_in_a_sentence(text, message):
    with pytest.raises(UserError, match=message):
        L.parse_losses(text)
