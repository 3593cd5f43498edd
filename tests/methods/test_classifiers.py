"""Networks of others: the answers that their own libraries give, files read safely, ways on when there is none."""

import pickle

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from torch.nn.functional import interpolate
from torchvision.transforms.functional import normalize

from mdebench.errors import UserError
from mdebench.methods.classifiers import IMAGENET_MEAN, IMAGENET_STD, load_classifier

WAYS = r"judge ARCH:FILE.*judge own.*judge none"


def network_of(library, arch, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"timm": timm.create_model, "torchvision": torchvision.models.get_model}[library](arch, **kwargs).eval()


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def seen(images, side, mean, std):
    large = interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return normalize(large, list(mean), list(std))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timms_network_from_a_file_says_what_timm_says(tmp_path, images, suffix):
    network, file = network_of("timm", "test_resnet", num_classes=7), tmp_path / f"w.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(network.state_dict(), file)
    classifier = load_classifier(f"test_resnet:{file}")
    cfg = resolve_data_config({}, model=network)
    x = seen(images, cfg["input_size"][-1], cfg["mean"], cfg["std"])
    features, logits = classifier(images)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(x))
        torch.testing.assert_close(features, network.forward_features(x).mean(dim=(2, 3)))
        # timm's own way from a picture to the network, to the rounding of its bytes
        whole = create_transform(**{**cfg, "crop_pct": 1.0})
        bytes_ = images.mul(255).round().div(255)
        pictures = [torchvision.transforms.functional.to_pil_image(image) for image in bytes_]
        expected = network(torch.stack([whole(picture) for picture in pictures]))
        torch.testing.assert_close(classifier(bytes_).logits, expected, atol=0.05, rtol=0)
    assert classifier.name.startswith("test_resnet-") and not classifier.training and not classifier.notes


def test_torchvisions_network_where_timm_has_none_of_the_name(tmp_path, images):
    network = network_of("torchvision", "squeezenet1_1", num_classes=5)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    features, logits = load_classifier(f"squeezenet1_1:{tmp_path / 'w.safetensors'}")(images)
    x = seen(images, 224, IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(x))
        torch.testing.assert_close(features, network.features(x).mean(dim=(2, 3)))


def test_torchvisions_weights_under_a_name_that_timm_also_has(tmp_path, images):
    """The two libraries name the layers of their efficientnet_b0 differently: the file decides whose it is."""
    assert timm.is_model("efficientnet_b0")
    network, file = network_of("torchvision", "efficientnet_b0", num_classes=4), tmp_path / "w.safetensors"
    save_file(network.state_dict(), file)
    with torch.no_grad():
        expected = network(seen(images, 224, IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(load_classifier(f"efficientnet_b0:{file}")(images).logits, expected)


def test_a_file_without_the_classifying_layer_gives_features_only_in_half_precision_too(tmp_path, images):
    for library, arch, head in (("timm", "test_resnet", "fc"), ("torchvision", "squeezenet1_1", "classifier")):
        whole = {n: v.half() for n, v in network_of(library, arch).state_dict().items()}
        trunk = {name: value for name, value in whole.items() if not name.startswith(f"{head}.")}
        assert len(trunk) == len(whole) - 2
        save_file(whole, tmp_path / "whole.safetensors")
        save_file(trunk, tmp_path / "trunk.safetensors")
        features, logits = load_classifier(f"{arch}:{tmp_path / 'trunk.safetensors'}")(images)
        assert logits is None and features.dtype == torch.float32
        torch.testing.assert_close(load_classifier(f"{arch}:{tmp_path / 'whole.safetensors'}")(images)[0], features)


@pytest.fixture(scope="module")
def headless(tmp_path_factory):
    """A network that timm makes without a classifying layer, and the file of its weights."""
    file = tmp_path_factory.mktemp("headless") / "w.safetensors"
    network = network_of("timm", "eva02_tiny_patch14_224")
    save_file(network.state_dict(), file)
    return network, file


def test_a_network_that_has_no_classifying_layer_gives_features_only(headless, images):
    network, file = headless
    features, logits = load_classifier(f"eva02_tiny_patch14_224:{file}")(images)
    cfg = network.pretrained_cfg
    with torch.no_grad():
        torch.testing.assert_close(features, network(seen(images, 224, cfg["mean"], cfg["std"])))
    assert logits is None and network.num_classes == 0


def test_of_a_headless_network_nothing_but_the_head_may_be_missing(headless, tmp_path):
    network, _ = headless
    short = {name: tensor for name, tensor in network.state_dict().items() if name != "fc_norm.weight"}
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"tensors of timm's eva02_tiny_patch14_224 1 is missing \(fc_norm.weight\)"):
        load_classifier(f"eva02_tiny_patch14_224:{tmp_path / 'short.safetensors'}")


def test_a_headless_network_that_was_given_classes_has_them(tmp_path, images):
    network = network_of("timm", "eva02_tiny_patch14_224", num_classes=3)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    assert load_classifier(f"eva02_tiny_patch14_224:{tmp_path / 'w.safetensors'}")(images).logits.shape == (2, 3)


def test_both_classifying_layers_of_a_distilled_network_may_be_missing(tmp_path, images):
    state = network_of("timm", "deit_tiny_distilled_patch16_224").state_dict()
    trunk = {name: tensor for name, tensor in state.items() if not name.startswith("head")}
    assert len(trunk) == len(state) - 4
    save_file(trunk, tmp_path / "w.safetensors")
    look = load_classifier(f"deit_tiny_distilled_patch16_224:{tmp_path / 'w.safetensors'}")(images)
    assert look.logits is None and look.features.shape == (2, 192)


def test_the_name_tells_the_weights_and_no_path(tmp_path):
    state = network_of("timm", "test_resnet").state_dict()
    names, before = [], torch.random.get_rng_state()
    for file, change in (("a", 0), ("b", 0), ("c", 1)):
        torch.save({"state_dict": {**state, "fc.bias": state["fc.bias"] + change}}, tmp_path / f"{file}.pt")
        names.append(load_classifier(f"test_resnet:{tmp_path / f'{file}.pt'}").name)
    assert torch.equal(torch.random.get_rng_state(), before)  # nothing was drawn from the global generator
    assert names[0] == names[1] != names[2] and not any("/" in name for name in names)


def test_a_file_that_holds_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was-here"), "w"))

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"fc.weight": Evil()}, tmp_path / "v.pth")
    for file in ("w.pth", "v.pth"):
        with pytest.raises(UserError, match="can run code"):
            load_classifier(f"test_resnet:{tmp_path / file}")
    assert not (tmp_path / "was-here").exists()


def test_files_that_do_not_fit_are_refused_with_the_ways_on(tmp_path):
    state = network_of("timm", "test_resnet").state_dict()
    cases = {
        "missing.safetensors": None,
        "text.safetensors": b"hello",
        "text.pt": b"hello",
        "list.pt": [torch.zeros(1)],
        "few.pt": {name: value for name, value in state.items() if not name.startswith("layer1")},
        "shape.pt": {**state, "conv1.0.weight": torch.zeros(1)},
    }
    for name, content in cases.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=WAYS):
            load_classifier(f"test_resnet:{tmp_path / name}")
    with pytest.raises(UserError, match="has a network 'test_resnett'"):
        load_classifier(f"test_resnett:{tmp_path / 'few.pt'}")


def test_published_weights_that_cannot_be_had_name_the_ways_on(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))  # nothing is cached
    for spec in ("resnet18", "squeezenet1_1", "inception_v3.tf_in1k"):
        with pytest.raises(UserError, match=rf"{spec} are not here.*no network.*{WAYS}"):
            load_classifier(spec)
    with pytest.raises(UserError, match=rf"inception_v3.tf_in1k are not here.*{WAYS}"):
        load_classifier("inception")
    with pytest.raises(UserError, match=rf"neither timm nor torchvision has a network 'resnet1' .*timm has.*{WAYS}"):
        load_classifier("resnet1")
