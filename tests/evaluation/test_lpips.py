"""LPIPS against torchmetrics' with the same weights, its properties, and folders that do not hold it."""

import pytest
import torch
from safetensors.torch import save_file
from torchmetrics.functional.image.lpips import _LPIPS

from mdebench.errors import UserError
from mdebench.evaluation.judging.lpips import BACKBONE, HEADS, load_lpips


@pytest.fixture(scope="module")
def reference():
    """torchmetrics' LPIPS with its own linear heads on a backbone of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _LPIPS(pretrained=True, net="squeeze", pnet_rand=True).eval()


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """The two weight files, under the published names of their tensors."""
    path = tmp_path_factory.mktemp("weights")
    state = reference.state_dict()
    backbone = {
        f"features.{name.split('.', 3)[3]}": value for name, value in state.items() if name.startswith("net.slices")
    }
    backbone["classifier.1.weight"] = torch.zeros(10, 512, 1, 1)  # the published file has it; it takes no part
    save_file(backbone, path / BACKBONE)
    save_file({n: v for n, v in state.items() if n.startswith("lin") and "lins" not in n}, path / HEADS)
    return path


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 48, 40, generator=generator)
    noise = torch.randn(4, 3, 48, 40, generator=generator) * torch.tensor([0.0, 0.02, 0.1, 0.5])[:, None, None, None]
    return x, (x + noise).clamp(0, 1)


def test_it_agrees_with_torchmetrics_given_the_same_weights(reference, folder, pairs):
    distance = load_lpips(folder)
    expected = reference(*pairs, normalize=True).flatten()
    assert (expected[1:] > 1e-4).all()  # so that there is something to agree on
    torch.testing.assert_close(distance(*pairs), expected, rtol=1e-4, atol=1e-7)


def test_zero_on_the_same_symmetric_growing_and_each_pair_by_itself(folder, pairs):
    distance, (x, y) = load_lpips(folder), pairs
    d = distance(x, y)
    assert d.shape == (4,) and d[0] == 0 and (d.diff() > 0).all()
    torch.testing.assert_close(distance(y, x), d)
    torch.testing.assert_close(distance(x[2:3], y[2:3])[0], d[2])
    assert not any(p.requires_grad for p in distance.parameters()) and not distance.training


def test_its_name_tells_both_weights_by_hash(folder, tmp_path):
    name = load_lpips(folder).name
    assert name == load_lpips(folder).name and str(folder) not in name
    save_file({n: v + 1 for n, v in load_heads(folder).items()}, tmp_path / HEADS)
    (tmp_path / BACKBONE).symlink_to(folder / BACKBONE)
    other = load_lpips(tmp_path).name
    assert other != name and other.partition(",")[0] == name.partition(",")[0]


def load_heads(folder):
    from safetensors.torch import load_file

    return load_file(folder / HEADS)


def test_what_is_missing_or_wrong_is_said_with_the_ways_on(folder, tmp_path):
    with pytest.raises(UserError, match=rf"{BACKBONE}.*--set lpips=none"):
        load_lpips(tmp_path)
    (tmp_path / BACKBONE).symlink_to(folder / BACKBONE)
    heads = load_heads(folder)
    for wrong, words in (
        ({n: v for n, v in heads.items() if "lin3" not in n}, "lin3"),
        ({**heads, "lin0.model.1.weight": torch.zeros(1, 65, 1, 1)}, "SqueezeNet"),
    ):
        save_file(wrong, tmp_path / HEADS)
        with pytest.raises(UserError, match=rf"{words}.*--set lpips=none"):
            load_lpips(tmp_path)
    (tmp_path / HEADS).write_bytes(b"not a tensor")
    with pytest.raises(UserError, match="is a text that begins with 'not"):
        load_lpips(tmp_path)
    (tmp_path / HEADS).unlink()
    (tmp_path / HEADS).symlink_to(folder / HEADS)
    (tmp_path / BACKBONE).unlink()
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / BACKBONE)
    with pytest.raises(UserError, match="lack features"):
        load_lpips(tmp_path)
