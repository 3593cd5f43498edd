"""pSNR and SSIM against scikit-image, readings over a part by hand, the bootstrap against theory."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mdebench.evaluation import metrics


def pair(height=40, width=33, n=3):
    rng = np.random.default_rng(7)
    smooth = rng.random((n, 3, 1, 1)) + np.sin(np.arange(height)[:, None] / 5) * np.cos(np.arange(width) / 7) / 3
    x = np.clip(smooth, 0, 1)
    return torch.tensor(x), torch.tensor(np.clip(x + rng.normal(0, 0.1, x.shape), 0, 1))


def reference_ssim(x, y, **options):
    return structural_similarity(
        x.numpy(),
        y.numpy(),
        channel_axis=0,
        data_range=1,
        gaussian_weights=True,
        use_sample_covariance=False,
        sigma=1.5,
        **options,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(40, 33), (64, 64), (11, 11)])
def test_whole_image_equals_scikit_image(size, dtype):
    x, y = pair(*size)
    ours_psnr, ours_ssim = metrics.psnr(x.to(dtype), y.to(dtype)), metrics.ssim(x.to(dtype), y.to(dtype))
    for i in range(len(x)):
        assert ours_psnr[i] == pytest.approx(
            peak_signal_noise_ratio(x[i].numpy(), y[i].numpy(), data_range=1), abs=1e-4
        )
        assert ours_ssim[i] == pytest.approx(reference_ssim(x[i], y[i]), abs=1e-6)


def test_the_map_equals_scikit_image_up_to_the_edge():
    x, y = pair()
    ours = metrics.ssim_map(x, y)
    for i in range(len(x)):
        np.testing.assert_allclose(ours[i].numpy(), reference_ssim(x[i], y[i], full=True)[1], atol=1e-6)


def test_a_hole_is_read_alone_even_at_the_edge():
    x, y = pair()
    hole = torch.zeros(1, 1, 40, 33)
    hole[..., :9, 20:] = 1  # touches two edges
    inside = (x - y)[:, :, :9, 20:].numpy()
    np.testing.assert_allclose(metrics.psnr(x, y, hole), -10 * np.log10((inside**2).mean(axis=(1, 2, 3))))
    full = np.stack([reference_ssim(a, b, full=True)[1] for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(metrics.ssim(x, y, hole), full[:, :, :9, 20:].mean(axis=(1, 2, 3)), atol=1e-6)


def test_a_hole_may_differ_per_channel_and_image():
    x = torch.zeros(2, 3, 12, 12)
    y = x.clone()
    y[0, 1] = 0.1
    hole = torch.zeros_like(x)
    hole[0, 1] = hole[1, 2] = 1
    assert metrics.psnr(x, y, hole)[0] == pytest.approx(20)
    assert metrics.psnr(x, y, hole)[1] == math.inf
    assert metrics.psnr(x, y)[0] == pytest.approx(20 + 10 * math.log10(3))


def test_no_hole_is_no_number():
    x, y = pair()
    assert metrics.psnr(x, y, torch.zeros(1, 1, 40, 33)).isnan().all()
    assert metrics.ssim(x, y, torch.zeros(1, 1, 40, 33)).isnan().all()


def test_identical_images_are_infinitely_and_perfectly_alike():
    x, _ = pair()
    assert (metrics.psnr(x, x) == math.inf).all()
    np.testing.assert_allclose(metrics.ssim(x, x), 1)


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="at least 11×11"):
        metrics.ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


def test_composite_keeps_what_was_seen():
    x, y = pair()
    seen = torch.ones(1, 1, 40, 33)
    seen[..., 5:20, 5:20] = 0
    pasted = metrics.composite(x, seen, y)
    assert torch.equal(pasted[..., 5:20, 5:20], y[..., 5:20, 5:20])
    assert torch.equal(pasted[..., 20:, :], x[..., 20:, :])


def test_a_mean_has_students_interval_and_keeps_its_numbers():
    values = np.random.default_rng(3).exponential(size=200)
    found = metrics.measure_mean("m", "dB", values, "here", ["one", "", "two"], images=np.arange(200))
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))
    assert (found.n, found.note, found.setting) == (200, "one; two", "here") and (found.images == np.arange(200)).all()
    np.testing.assert_allclose(found.values, values, rtol=1e-6)


def test_students_interval_is_that_of_a_bootstrap_where_there_are_many_images():
    values = np.random.default_rng(3).exponential(size=500)
    found = metrics.measure_mean("m", "dB", values, "here")
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, 500, size=500)].mean() for _ in range(2000)]
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), rel=0.02)
