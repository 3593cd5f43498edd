"""Encoders from a file of Python: the network as it is, its weights from another file, and sentences where it fails."""

import pytest
import torch
from torch import nn

from mdebench.baselines.face_encoder import Example, Method, Settings
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.evaluation.subjects import load_subject
from mdebench.results.rows import read_rows
from mdebench.training.recipes import make_recipe, train_run

NET = """
import torch
from torch import nn
from torch.nn.functional import normalize


class FaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.PReLU(4), nn.AdaptiveAvgPool2d(2))
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        if images.shape[-1] < 8:
            raise ValueError("faces of 8 pixels or more")
        return normalize(self.head(self.body(images).flatten(1)))




def maps():
    return nn.Conv2d(3, 4, 3)


def number():
    return 5


def fails():
    raise RuntimeError("no such backbone")
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "facenet.py"
    path.write_text(NET)
    return path


def saved(net, seed=1):
    """The network of the file with weights of its own, wrapped as trainers wrap them, and these weights' path."""
    space = {}
    exec(NET, space)
    torch.manual_seed(seed)
    network = space["FaceNet"]().eval()
    path = net.parent / "facenet.pth"
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "arcface": {"weight": torch.rand(9, 5)}}, path)
    return network, path


def method(net, **values):
    return Method(Settings(**({"source": str(net), "network": "FaceNet"} | values)), 16).eval()


def test_codes_are_what_the_network_says_of_images_enlarged_and_normalised(net):
    network, path = saved(net)
    m = method(net, weights=str(path), side=24, normalise="half")
    images = torch.rand(3, 3, 16, 16)
    larger = nn.functional.interpolate(images, (24, 24), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(m.encode(images), network(2 * larger - 1))
    assert m.feature_dim == 5 and (m.family(m.settings), m.family(method(net).settings)) == ("published", "reference")
    assert m.told["weights"].startswith("facenet.pth-") and m.told["source"].startswith("facenet.py-")
    assert 'taken from "state_dict", without "module."' in m.notes[0]
    assert not m.players() and not hasattr(m, "complete")


def test_random_weights_follow_the_seed(net):
    def built(seed):
        torch.manual_seed(seed)
        return method(net).encode(torch.ones(1, 3, 16, 16))

    assert torch.equal(built(0), built(0)) and not torch.equal(built(0), built(1))


def test_without_a_file_it_is_the_example():
    torch.manual_seed(0)
    m = Method(Settings(), 16).eval()
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(m.encode(images), Example()(images)) and m.feature_dim == 64


def test_a_run_is_measured_when_its_weights_have_gone_but_not_its_source(home, pack, console, net):
    _, path = saved(net)
    sets = {"source": str(net), "network": "FaceNet", "weights": str(path)}
    run = train_run(home, make_recipe("face_encoder", pack, "tiny", 0, sets), pack, console)
    assert set(run.info["files"]) == {"source", "weights"}
    codes = load_subject(run).method.encode(torch.ones(1, 3, 16, 16))
    path.unlink()
    torch.testing.assert_close(load_subject(run).method.encode(torch.ones(1, 3, 16, 16)), codes)
    assert measuring.measure(home, "landmarks", [run], pack, {"setting": "frozen-probe"}, console)
    assert set(read_rows(home)["width"]) == {5} and str(net.parent) not in read_rows(home).to_json()
    net.unlink()
    with pytest.raises(UserError, match=r"facenet\.py is no file of Python"):
        load_subject(run)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "nowhere.py"}, "source=nowhere.py is no file of Python"),
        ({"network": "Facenet"}, "no network 'Facenet'. Did you mean 'FaceNet'"),
        ({"network": "normalize"}, "Choose among: FaceNet, maps, number, fails"),
        ({"network": "maps"}, r"maps gives \(2, 4, 14, 14\) for two images, not codes \(2, D\)"),
        ({"network": "number"}, "is a int, not a torch.nn.Module"),
        ({"network": "fails"}, r"fails\(\) of .*facenet.py failed: RuntimeError: no such backbone \(line 30\)"),
        ({"side": 4}, "takes no images of 4×4 pixels: ValueError: faces of 8 pixels or more"),
        ({"normalise": "imagnet"}, "Did you mean 'imagenet'"),
        ({"weights": "nowhere.pth"}, r"no such file: nowhere\.pth"),
        ({"weights": ""}, "weights= names nothing"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(net, values, message):
    with pytest.raises(UserError, match=message) as caught:
        method(net, **values)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused_by_name(net, tmp_path):
    torch.save({"body.0.weight": torch.rand(4, 3, 3, 3), "head.weight": torch.rand(6, 16)}, tmp_path / "other.pth")
    with pytest.raises(
        UserError, match=r"of the 9 tensors of FaceNet .* missing .*head\.weight is \(6, 16\), not \(5, 16\)"
    ):
        method(net, weights=str(tmp_path / "other.pth"))
