"""timm's networks as encoders: the right maps in the right places, weights that are really those asked for."""

import json

import numpy as np
import pytest
import timm
import timm_sweep
import torch
from safetensors.torch import save_file

from mdebench import catalog
from mdebench.baselines import timm_encoder
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.evaluation.contract import Subject
from mdebench.methods.networks import Generator, TimmEncoder
from mdebench.results.rows import read_rows, stale
from mdebench.suite.plan import Order, make_plan
from mdebench.suite.speed import Speed
from mdebench.training.recipes import make_recipe, train_run


@pytest.mark.parametrize(
    ("name", "skips"),
    [
        ("resnet10t", (0, 64, 64, 128)),
        ("convnext_atto", (0, 0, 40, 80)),
        ("dla46x_c", (0, 32, 64, 64)),  # its first map has the number 1, not 0
    ],
    ids=["resnet", "convnext", "dla"],
)
def test_the_mde_on_a_network_of_timm(name, skips):
    """At 64 pixels: four stages, the last map 4×4; a network that begins at stride 4 has no map for two of them."""
    generator = Generator(64, 4, 12, encoder=f"timm:{name}").eval()
    encoder = generator.encoder
    assert isinstance(encoder, TimmEncoder) and encoder.skip_channels == skips and encoder.map_shape[1:] == (4, 4)
    images = torch.rand(2, 3, 64, 64)
    code, carried = encoder(images)
    assert code.shape == (2, 12) and generator(images).shape == (2, 3, 64, 64)
    for stage, (channels, each) in enumerate(zip(skips, carried, strict=True)):
        if channels:
            assert each.shape == (2, channels, 64 >> stage, 64 >> stage)
    maps = encoder.maps(images)
    torch.testing.assert_close(maps[f"stage{len(maps)}"].flatten(1), encoder.trunk(images)[-1].flatten(1))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("timm:xcit_nano_12_p8_224", "maps of stride 8, 8, 8"),
        ("timm:vit_tiny_patch16_224", r"takes no images of 64×64 pixels: Input height \(64\)"),
        ("timm:test_mambaout", r"\(1, 8, 8, 32\), .*not maps \(N, C, h, w\)"),
        ("timm:resnet10", "has no network 'resnet10'.*Did you mean"),
        ("resnet18", "there is mde and timm:NAME"),
    ],
)
def test_what_cannot_be_an_encoder_is_told(encoder, message):
    with pytest.raises(UserError, match=message):
        Generator(64, 4, 12, encoder=encoder)


def test_a_network_of_timm_is_named_after_the_colon():
    entry = catalog.method("timm:resnet10t")
    assert entry.settings(None, {}) == timm_encoder.Settings(name="resnet10t")
    assert entry.name == "timm:resnet10t" and catalog.method("timm").name == "timm_encoder"


def test_weights_of_a_file_are_told_by_name_and_hash(tmp_path):
    torch.manual_seed(1)
    trained = timm.create_model("resnet10t")
    save_file(trained.state_dict(), tmp_path / "mine.safetensors")
    method = timm_encoder.Method(timm_encoder.Settings("resnet10t", str(tmp_path / "mine.safetensors"), 64), 64).eval()
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(trained.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = trained.eval().forward_head(trained.forward_features((images - mean) / std), pre_logits=True)
        torch.testing.assert_close(method.encode(images), expected)
    assert method.told["weights"].startswith("resnet10t-") and str(tmp_path) not in str(method.told)


def test_random_weights_follow_the_seed_and_images_are_enlarged():
    def build(seed, side):
        torch.manual_seed(seed)
        return timm_encoder.Method(timm_encoder.Settings("resnet10t", side=side), 32).eval()

    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        one, same, other = (build(seed, 64).encode(images) for seed in (0, 0, 1))
        enlarged = torch.nn.functional.interpolate(images, (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
        torch.testing.assert_close(build(0, 64).encode(enlarged), one)
    assert torch.equal(one, same) and not torch.allclose(one, other)
    assert build(0, None).classifier.side == timm.create_model("resnet10t").pretrained_cfg["input_size"][-1]


# --- widths, which timm declares and which are measured


def method_of(name, side=32, weights="random", size=16):
    return timm_encoder.Method(timm_encoder.Settings(name, weights, side), size).eval()


def test_a_code_is_as_wide_as_it_comes_out_and_features_are_read_as_they_were_encoded(pack, tmp_path):
    method, rows = method_of("test_mambaout"), np.array([7, 2, 250])
    assert method.classifier.network.num_features == 64  # declared: of the maps, before the head widens them
    with torch.no_grad():
        expected = method.encode(pack.batch(rows).float() / 255)
    assert expected.shape == (3, 256) and method.feature_dim == 256
    subject, file = Subject("net", method, tmp_path, 0, "ab" * 32), tmp_path / "features"
    np.testing.assert_allclose(subject.features(pack, rows), expected, rtol=1e-4, atol=1e-5)
    (file,) = (tmp_path / "features").iterdir()
    whole = np.load(file)
    with file.open("wb") as stream:  # as it was once written: under the declared width
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (300, 64)})
        stream.write(whole.tobytes())
    np.testing.assert_array_equal(subject.features(pack, np.arange(300)), whole)


def test_measuring_a_width_keeps_nothing_of_the_weights():
    """LeViT keeps what it computes of its biases in eval mode, which begin as zeros, as do the weights behind them."""
    method = timm_encoder.Method(timm_encoder.Settings("levit_128s"), 224)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        state = method.state_dict()
        zeros = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.any()]
        method.load_state_dict(state | {name: 5 * torch.rand_like(state[name]) for name in zeros})
        fresh = timm.create_model("levit_128s").train(method.training)
        fresh.load_state_dict(method.classifier.network.state_dict())
        normal = (images - method.classifier.mean) / method.classifier.std
        expected = fresh.forward_head(fresh.forward_features(normal), pre_logits=True)
        torch.testing.assert_close(method.encode(images), expected)


def test_a_size_that_a_network_does_not_take_is_told():
    with pytest.raises(
        UserError, match=r"vit_tiny_patch16_224 takes no images of 32×32 pixels .*; choose another side"
    ):
        method_of("vit_tiny_patch16_224")


def test_rows_from_before_widths_were_measured_are_stale_planned_and_measured_again(home, pack, console):
    run = train_run(home, make_recipe("timm:test_mambaout", pack, "tiny", 0, {}), pack, console)
    asked = {"setting": "frozen-probe"}
    count = measuring.measure(home, "landmarks", [run], pack, asked, console)
    good = read_rows(home)
    assert set(good["width"]) == {256} and not stale(good, {}).any()
    path = home.rows / "landmarks" / f"{run.folder.name}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shifted = [{**{k: v for k, v in line.items() if k != "width"}, "value": 99.0} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in shifted))
    assert stale(read_rows(home), {}).all()
    ordered = {"landmarks.setting": "frozen-probe", "width": "2", "code": "4"}
    order = Order(home, "table3", "tiny", pack.name, (0,), ordered, ("timm:test_mambaout",), ("landmarks",))
    planned = {task.name: task.state for task in make_plan(order, console, lambda recipe: Speed(1, 1, 1)).tasks}
    assert planned[f"landmarks of {run.folder.name}"] == "stale"
    assert measuring.measure(home, "landmarks", [run], pack, asked, console) == count
    assert read_rows(home).drop(columns="time").equals(good.drop(columns="time"))
    assert measuring.measure(home, "landmarks", [run], pack, asked, console) == 0


# --- finetuning, whatever the weights' origin


@pytest.mark.parametrize("origin", ["random", "file", "published"])
def test_finetuning_moves_the_encoder_whatever_the_weights_origin(origin, pack, tmp_path, monkeypatch):
    network, create = timm.create_model("test_resnet"), timm.create_model
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **more: create(name, **more))  # no network
    method = method_of("test_resnet", weights=str(tmp_path / "w.safetensors") if origin == "file" else origin)
    subject = Subject("net", method, tmp_path, 0, "ab" * 32)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    assert timm_sweep.tensors_moved(subject, pack) == [45, 47]  # all but weight and bias of the classifying layer
    assert all(torch.equal(before[name], tensor) for name, tensor in method.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("mobilenetv3_small_050", "ghostnet_050", "efficientvit_b0", "inception_next_atto", "fasternet_t0"),
        *("convnext_atto", "resnet10t", "xcit_nano_12_p8_224", "vit_tiny_patch16_dinov3_qkvb"),
        "eva02_tiny_patch14_224",
    ],
)
def test_a_network_of_each_kind_is_encoded_stored_and_tuned(name, tmp_path):
    """`timm_sweep.py` tries every family."""
    facts = timm_sweep.tried(name, tmp_path)
    assert (facts["stored"], facts["left"]) == ("as encoded", "as it was") and facts["moved"] != "NOTHING"
