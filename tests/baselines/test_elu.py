"""Our ELU beside torch's own, and its gradient beside numerical differentiation."""

import pytest
import torch
from torch.nn import functional

from mdebench.baselines._elu import elu


def numbers(dtype):
    """Either sign, large and small, both zeros, and what is no number."""
    g = torch.Generator().manual_seed(0)
    drawn = torch.randn(500, generator=g) * 10.0 ** torch.randint(-6, 3, (500,), generator=g)
    return torch.cat([drawn, torch.tensor([0.0, -0.0, 1e4, -1e4, torch.inf, -torch.inf])]).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-15), (torch.float32, 3.1e-8), (torch.bfloat16, 3.1e-8)]
)
def test_it_is_torchs_elu_but_for_rounding(dtype, error):
    x = numbers(dtype).requires_grad_()
    found, expected = elu(x), functional.elu(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, atol=error, rtol=2**-8 if dtype == torch.bfloat16 else 1e-7)
    weights = torch.linspace(-1, 1, len(x), dtype=dtype)
    slopes = (torch.autograd.grad((each * weights).nan_to_num().sum(), x)[0] for each in (found, expected))
    # The slope is taken from the result, which bf16 rounds by up to 2^-9 close to -1, as torch does in place.
    torch.testing.assert_close(*slopes, atol=2**-9 if dtype == torch.bfloat16 else 1e-7, rtol=2**-7)


def test_its_gradient_is_that_of_numerical_differentiation_and_its_input_stays():
    x = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    assert torch.autograd.gradcheck(elu, x.requires_grad_()) and torch.equal(x, before)


def test_what_is_no_number_stays_none_and_the_layout_stays():
    assert elu(torch.tensor([torch.nan])).isnan().all()
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert elu(x).is_contiguous(memory_format=torch.channels_last)
