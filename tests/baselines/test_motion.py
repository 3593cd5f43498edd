"""Motion: Otsu against scikit-image, segments against squares that move and faces whose parts are known, the loss."""

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from torch.nn.functional import binary_cross_entropy_with_logits

from mdebench.baselines.motion import CHANGE, LEVELS, Method, Settings, confidence, two_classes
from mdebench.data import toyfaces
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Beside

SIZE = 32
RNG = np.random.default_rng(0)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 16} | values)), size).eval()


def moving_square(frames=5, size=SIZE, side=12, light=0.0):
    """A bright checked square that goes two pixels right in each frame, over a still ground, and a light that grows."""
    ground = torch.from_numpy(RNG.random((3, size, size))) / 4
    texture = torch.from_numpy(RNG.random((3, side, side))) / 2 + 0.4
    images, inside = ground.repeat(frames, 1, 1, 1), torch.zeros(frames, size, size, dtype=torch.bool)
    for t in range(frames):
        place = (slice(8, 8 + side), slice(4 + 2 * t, 4 + 2 * t + side))
        images[(t, slice(None), *place)], inside[(t, *place)] = texture, True
        images[t] += light * t
    return images.float(), inside


def batch_of(images, clip, index=None, dtype=torch.float32):
    index = torch.arange(len(images)) if index is None else torch.tensor(index)
    given = Beside({"clip": np.asarray(clip, np.int32)}, lambda rows: images[rows].to(dtype))
    return Batch(images[index].to(dtype), index, 0, 0, 0, torch.Generator().manual_seed(0), 10, given=given)


def test_two_classes_are_parted_where_scikit_image_parts_them():
    values = np.concatenate([RNG.normal(0.2, 0.05, (6, 300)), RNG.normal(0.7, 0.1, (6, 200))], axis=1)
    values[5] = RNG.random(500)
    still, moving = two_classes(torch.from_numpy(values))
    for row, low, high in zip(values, still.tolist(), moving.tolist()):
        threshold = threshold_otsu(row, nbins=4096)
        assert low == pytest.approx(row[row <= threshold].mean(), abs=1 / LEVELS)
        assert high == pytest.approx(row[row > threshold].mean(), abs=1 / LEVELS)
    flat, same = two_classes(torch.full((2, 7), 0.25))
    assert flat.tolist() == same.tolist() == [0.25] * 2


@pytest.mark.parametrize("light", [0.0, 0.01])
def test_a_square_that_moves_is_found_and_a_light_that_grows_is_not(light):
    images, inside = moving_square(light=light)
    others = torch.stack([images[[s for s in range(5) if s != t]] for t in range(5)])
    sure = confidence(images, others, torch.ones(5, 4), SIZE)
    assert (sure[inside] > 0.4).float().mean() > 0.95
    swept = inside.any(dim=0).expand_as(inside)
    far = ~(torch.nn.functional.max_pool2d(swept.float()[:, None], 5, 1, 2)[:, 0] > 0)
    assert (sure[far] < 0.4).all() and (sure[inside] > 0.7).float().mean() > 0.7
    assert sure.shape == (5, SIZE, SIZE) and confidence(images, others, torch.ones(5, 4), 8).shape == (5, 8, 8)


def test_a_frame_that_is_not_there_does_not_count():
    images, _ = moving_square()
    others = images[torch.tensor([[1, 2, 0], [0, 2, 4]])]
    told = confidence(images[:2], others, torch.tensor([[1.0, 1, 0], [1, 1, 1]]), SIZE)
    torch.testing.assert_close(told[0], confidence(images[:1], others[:1, :2], torch.ones(1, 2), SIZE)[0])
    assert confidence(images[:2], others, torch.zeros(2, 3), SIZE).isnan().all()


def test_where_nothing_moves_nothing_is_told():
    still = torch.rand(1, 3, SIZE, SIZE)
    assert confidence(still, still[:, None].repeat(1, 4, 1, 1, 1), torch.ones(1, 4), 8).isnan().all()


def test_what_moves_on_toyfaces_is_no_background():
    """Against the exact segments: both precisions are plainly better than the shares of the classes."""
    chunks = list(toyfaces.generate(200, 64, 0, 8, segments=True))
    images = torch.from_numpy(np.concatenate([chunk.images for chunk in chunks])).float() / 255
    face = torch.from_numpy(np.concatenate([chunk.segments for chunk in chunks])) > 0
    clips = images.view(25, 8, 3, 64, 64)
    others = clips[:, None].expand(25, 8, 8, 3, 64, 64).flatten(0, 1)
    there = (1 - torch.eye(8)).repeat(25, 1)
    sure = confidence(images, others, there, 64)
    moving, still = sure > 0.7, sure < 0.4
    assert 0.4 < moving.float().mean() < 0.6 and (moving | still).float().mean() > 0.8
    share = face.float().mean()
    assert face[moving].float().mean() > 0.9 > share + 0.15
    assert (~face[still]).float().mean() > 1.7 * (1 - share)


def test_the_loss_is_the_cross_entropy_of_the_places_that_are_sure():
    images, _ = moving_square(frames=6)
    images = torch.cat([images, torch.rand(1, 3, SIZE, SIZE)])
    m, batch = method().double(), batch_of(images.double(), [3] * 6 + [-1], [0, 2, 5, 6], torch.float64)
    found = m.loss("network", batch)
    with torch.no_grad():
        logits = m.network(2 * batch.images - 1)[:, 0]
    costs, moves = [], []
    for row, logit in zip((0, 2, 5), logits):
        others = images[[s for s in range(max(0, row - 4), min(6, row + 5)) if s != row]].double()
        sure = confidence(images[row : row + 1].double(), others[None], torch.ones(1, len(others)).double(), SIZE // 4)
        for z, c in zip(logit.flatten(), sure.flatten()):
            if c > 0.7 or c < 0.4:
                costs.append(binary_cross_entropy_with_logits(z, (c > 0.7).double()).item())
                moves.append(float(c > 0.7))
    assert found.total.item() == pytest.approx(np.mean(costs)) == found.parts["segments"].item()
    assert found.parts["moving"].item() == pytest.approx(np.mean(moves))


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("size", [8, 24, 128])
def test_black_frames_teach_nothing_and_break_nothing(backbone, size):
    m = method(size, backbone=backbone, width=1).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = m.loss("network", batch_of(torch.zeros(2, 3, size, size), [0, 0]))
    loss.total.backward()
    assert loss.total == 0 and loss.total.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in m.parameters() if p.grad is not None)


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_a_moving_square_is_learned_from_single_frames(backbone):
    pieces = [moving_square(frames=4) for _ in range(3)]
    images = torch.cat([images for images, _ in pieces])
    m, batch = method(width=8, code=32, backbone=backbone).train(), batch_of(images, np.repeat(range(3), 4))
    optimizer = torch.optim.AdamW(m.players()["network"].parameters, 3e-3)
    losses = []
    for _ in range(30):
        loss = m.loss("network", batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_parameters_at_full_width_by_hand():
    m = method(64, width=64, code=4096)
    layers = [(3, 96, 5), (96, 256, 5), (256, 384, 3), (384, 384, 3), (384, 256, 3)]
    convolutions = sum(a * b * k * k + 2 * b for a, b, k in layers)
    full = 256 * 4 * 4 * 4096 + 2 * 4096 + 4096**2 + 2 * 4096
    assert sum(p.numel() for p in m.parameters()) == convolutions + full + 4097 * 16 * 16
    assert m.encode(torch.rand(1, 3, 64, 64)).shape == (1, m.feature_dim) == (1, 4096)
    assert [each.shape[-1] for each in m.stages(torch.rand(1, 3, 64, 64)).values()] == [32, 16, 8, 8, 4]


def test_any_change_that_is_plain_counts_alike():
    images, _ = moving_square()
    others, there = images[None, 1:].clone(), torch.ones(1, 4)
    louder = images[:1] + (others - images[:1]) * 3
    quiet = confidence(images[:1], others, there, SIZE)
    loud = confidence(images[:1], louder, there, SIZE)
    assert ((quiet > 0.5) == (loud > 0.5)).float().mean() > 0.97 and CHANGE == 0.05


def test_wrong_settings_and_packs_without_clips_are_named():
    with pytest.raises(UserError, match="native, mde"):
        method(backbone="alexnet")
    with pytest.raises(UserError, match="learns from clip"):
        Method.suited(Settings(), {"clip": 0})
