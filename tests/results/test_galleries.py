"""Galleries: what is written is read back, and inputs and composites follow from it."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.galleries import RESAMPLING, Gallery, list_galleries, open_gallery, to_pixels, write_gallery


def made_up(rng, scenario="rec 0.1", n=3, k=2, size=6):
    return Gallery(
        scenario,
        rng.integers(1, 256, (n, size, size, 3), dtype=np.uint8),
        rng.random((n, k, 3, 4), dtype=np.float32),
        rng.random((n, k, size, size, 3)) < 0.3,
        rng.integers(1, 256, (n, k, size, size, 3), dtype=np.uint8),
    )


def test_what_is_written_is_read_and_listed(rng, tmp_path):
    written = [made_up(rng, scenario) for scenario in ("rec 0.1", "colorization1", RESAMPLING)]
    for gallery in written:
        write_gallery(tmp_path / "runs" / "some-run", "pack64", gallery)
    found = list_galleries(Home(tmp_path))
    assert [tuple(f)[:3] for f in found] == [
        ("some-run", "pack64", scenario) for scenario in ("colorization1", "rec 0.1", RESAMPLING)
    ]
    assert {f.path.name for f in found} == {"colorization1.npz", "rec-S0.1.npz", "resampling.npz"}
    for gallery in written:
        (path,) = (f.path for f in found if f.scenario == gallery.scenario)
        read = open_gallery(path)
        assert read.scenario == gallery.scenario
        for name in ("originals", "boxes", "seen", "completed"):
            assert np.array_equal(getattr(read, name), getattr(gallery, name))


def test_a_second_one_takes_the_place_of_the_first_and_leaves_nothing_beside_it(rng, tmp_path):
    write_gallery(tmp_path, "pack64", made_up(rng))
    path = write_gallery(tmp_path, "pack64", last := made_up(rng))
    assert list(path.parent.iterdir()) == [path]
    assert np.array_equal(open_gallery(path).completed, last.completed)


def test_inputs_and_composites_by_hand(rng):
    gallery = made_up(rng)
    for i, j, y, x, c in ((0, 0, 0, 0, 0), (2, 1, 5, 3, 2), *rng.integers(0, (3, 2, 6, 6, 3), (50, 5))):
        original, completed = gallery.originals[i, y, x, c], gallery.completed[i, j, y, x, c]
        seen = gallery.seen[i, j, y, x, c]
        assert gallery.inputs[i, j, y, x, c] == (original if seen else 0)
        assert gallery.composites[i, j, y, x, c] == (original if seen else completed)


def test_in_resampling_each_step_completes_the_one_before(rng):
    gallery = made_up(rng, RESAMPLING, k=4)
    assert np.array_equal(gallery.sources[:, 0], gallery.originals)
    assert np.array_equal(gallery.sources[:, 1:], gallery.completed[:, :-1])
    shown = gallery.inputs[:, 2]
    assert np.array_equal(shown[gallery.seen[:, 2]], gallery.completed[:, 1][gallery.seen[:, 2]])
    assert not shown[~gallery.seen[:, 2]].any()


def test_a_file_that_is_none_or_damaged_is_one_sentence(rng, tmp_path):
    path = write_gallery(tmp_path, "pack64", made_up(rng))
    whole = path.read_bytes()
    spoiled = [b"", b"no zip at all", whole[: len(whole) // 2], whole[:300] + b"????" + whole[304:]]
    for data in spoiled:
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"rec-S0\.1\.npz is damaged \("):
            open_gallery(path)
    np.savez(path, originals=np.zeros(3), boxes=np.zeros(3), seen=np.zeros(3), completed=np.zeros((2, 2, 4, 4, 3)))
    with pytest.raises(UserError, match="no gallery"):
        open_gallery(path)


def test_a_header_that_is_damaged_is_one_sentence(tmp_path):
    """Whole by its checksums, and yet no array: what numpy's reader makes of that is anybody's guess."""
    path = tmp_path / "rec-S0.1.npz"
    for header in (b"{'descr': '|u1', 'fortran_order': False, 'shape': (2,", b"{[}", b"9" * 90, b"{'shape': (-1,)}"):
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("originals", "boxes", "seen", "completed"):
                archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        with pytest.raises(UserError, match=r"rec-S0\.1\.npz is damaged \(.*delete it and measure its run again"):
            open_gallery(path)


def test_a_disk_that_refuses_is_one_sentence(rng, tmp_path):
    (tmp_path / "gallery").write_text("in the way")
    with pytest.raises(UserError, match="a file is where a folder is wanted"):
        write_gallery(tmp_path, "pack64", made_up(rng))


def test_pixels_are_rounded_and_channels_last():
    images = torch.tensor([-0.5, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0]).view(1, 1, 1, 6).expand(2, 3, 4, 6).clone()
    images[:, 1] = 0.5
    pixels = to_pixels(images.numpy())
    assert pixels.shape == (2, 4, 6, 3)
    assert pixels.dtype == np.uint8
    assert pixels[1, 2, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    assert (pixels[..., 1] == 128).all()


def test_reading_takes_no_torch():
    code = "import sys, mdebench.results.galleries; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
