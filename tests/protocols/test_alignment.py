"""Alignment: level 0 is the plain probe, landmarks go where their pixels go, and all runs meet the same draws."""

import numpy as np
import torch
from mocks import COUNT, Oracle, make_pack, measured, numbered

from mdebench.protocols import alignment, attributes, landmarks

RNG = np.random.default_rng(5)
LABELS = RNG.random((COUNT, 3)) < [0.5, 0.3, 0.8]
POINTS = np.clip(0.5 + RNG.normal(0, 0.1, (COUNT, 5, 2)), 0, 1)


def test_level_0_is_the_probe_of_the_transfers_to_the_last_bit(tmp_path):
    pack, code = make_pack(numbered(), LABELS.astype(int), POINTS), RNG.normal(size=(COUNT, 4))
    rows = measured(alignment, Oracle(code), pack, tmp_path)
    for protocol, metric in ((attributes, "attribute_error"), (landmarks, "landmark_distance")):
        probe = measured(protocol, Oracle(code), pack, tmp_path, setting="frozen-probe")
        assert rows["0 %", "test", metric].value == probe["frozen-probe", "test", metric].value


def test_a_spot_and_its_landmark_move_together():
    draws = RNG.uniform(-1, 1, (8, 4))
    images = torch.zeros(8, 3, 64, 64)
    images[:, :, 20:23, 37:40] = 1  # centred on pixel (x 38, y 21)
    spot = np.tile(np.array([[38.5, 21.5]], np.float32) / 64, (8, 1, 1))
    found = alignment.misaligned(images, draws, 0.2)[:, 0].double().numpy()
    place = (np.arange(64) + 0.5) / 64
    mass = found.sum(axis=(1, 2))
    centre = np.stack([(found.sum(axis=1) * place).sum(1), (found.sum(axis=2) * place).sum(1)], axis=1) / mass[:, None]
    np.testing.assert_allclose(centre, alignment.moved(spot, draws, 0.2)[:, 0], atol=0.3 / 64)


def test_draws_depend_on_pack_image_and_seed_alone():
    pack = make_pack(numbered(), LABELS.astype(int), POINTS)
    np.testing.assert_array_equal(alignment.drawn(pack, 0), alignment.drawn(pack, 0))
    assert (alignment.drawn(pack, 0) != alignment.drawn(pack, 1)).all()
    assert abs(alignment.drawn(pack, 0)).max() < 1
