"""timm's networks as encoders: the right maps in the right places, weights that are really those asked for."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import timm
import timm_sweep
import torch
import torchvision
from safetensors.torch import save_file

from mdebench import catalog
from mdebench.baselines import timm_encoder
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.encoders.export import export, load_export
from mdebench.evaluation.encoders.loading import run_encoder
from mdebench.evaluation.subjects import load_subject
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
    (note,) = method.notes  # nothing was stripped, resampled or left
    assert "mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225; --set normalise=imagenet, half, none" in note


def test_images_are_normalised_as_the_network_has_it_or_as_is_said(tmp_path):
    """torchvision's inception_v3 with published weights normalises again within, timm's before."""
    torch.manual_seed(0)
    theirs = torchvision.models.inception_v3(weights=None, transform_input=True, init_weights=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "inception.pth")
    images, kept = torch.rand(2, 3, 96, 96), []
    theirs.avgpool.register_forward_hook(lambda module, inputs, output: kept.append(output.flatten(1)))
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        theirs((images - mean) / std)
        settings = timm_encoder.Settings("inception_v3", str(tmp_path / "inception.pth"), 96)
        method = timm_encoder.Method(settings, 96).eval()
        torch.testing.assert_close(method.encode(images), kept[0], rtol=1e-3, atol=1e-3)
        assert "mean 0.5, 0.5, 0.5" in method.notes[-1]
        said = {}
        for name in timm_encoder.NORMALISED:
            other = timm_encoder.Method(replace(settings, normalise=name), 96).eval()
            assert not any("normalised" in note for note in other.notes)
            said[name] = other.encode(images)
    torch.testing.assert_close(said["half"], kept[0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(said["imagenet"], kept[0], rtol=1e-1) and not torch.allclose(said["none"], said["half"])
    with pytest.raises(UserError, match="normalise=clip: choose one of imagenet, half, none"):
        timm_encoder.Settings(normalise="clip")


# --- weights that lie elsewhere, later


def run_of_a_file(home, pack, console, path, seed=0):
    sets = {"weights": str(path), "side": "32"}
    return train_run(home, make_recipe("timm:test_resnet", pack, "tiny", seed, sets), pack, console)


def saved(path, seed, **about):
    torch.manual_seed(seed)
    torch.save({"state_dict": timm.create_model("test_resnet", num_classes=5).state_dict(), **about}, path)
    return path


def test_a_run_is_measured_and_exported_when_its_weight_file_has_gone(home, pack, console, tmp_path):
    run = run_of_a_file(home, pack, console, saved(tmp_path / "w.pth", 1))
    assert run.info["notes"][0] == 'w.pth: 75 tensors, taken from "state_dict"'
    before = load_subject(run)
    codes = before.features(pack, np.arange(9))
    (tmp_path / "w.pth").unlink()
    assert measuring.measure(home, "landmarks", [run], pack, {"setting": "frozen-probe"}, console)
    np.testing.assert_array_equal(load_subject(run).features(pack, np.arange(9)), codes)
    exported = load_export(export(run_encoder(run), tmp_path / "e.safetensors"))
    images = torch.from_numpy(pack.images[:9].copy()).float() / 255
    np.testing.assert_allclose(exported.encode(images), codes, rtol=1e-4, atol=1e-5)
    run_of_a_file(home, pack, console, tmp_path / "w.pth")  # the same command finds it finished
    assert "finished" in console.file.getvalue()


def test_a_run_of_published_weights_is_measured_where_they_cannot_be_had(home, pack, console, monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **more: create(name, **more))
    recipe = make_recipe("timm:test_resnet", pack, "tiny", 0, {"weights": "published", "side": "32"})
    run = train_run(home, recipe, pack, console)
    monkeypatch.undo()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *a, **k: pytest.fail("it was fetched"))
    assert load_subject(run).features(pack, np.arange(9)).shape == (9, 96)


def test_another_file_under_the_name_of_a_runs_is_told(home, pack, console, tmp_path):
    path = saved(tmp_path / "w.pth", 1)
    run = run_of_a_file(home, pack, console, path)
    assert run.info["files"] == {"weights": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "moved").mkdir()
    shutil.copy(path, tmp_path / "moved" / "w.pth")
    run_of_a_file(home, pack, console, tmp_path / "moved" / "w.pth")  # the same bytes elsewhere are the same run
    saved(path, 2)
    with pytest.raises(UserError, match=rf"{run.folder} holds a run made of another file: .*weights={path}.* sha256"):
        run_of_a_file(home, pack, console, path)
    run.update(status="running")  # as of one that was killed
    with pytest.raises(UserError, match="holds a run made of another file"):
        run_of_a_file(home, pack, console, path)


def test_weights_without_a_classifying_layer_have_one_name_whatever_the_seed(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("fc.")}, tmp_path / "w.pth")
    named = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        named.add(method_of("test_resnet", weights=str(tmp_path / "w.pth")).told["weights"])
    assert len(named) == 1


def test_a_file_that_is_not_there_is_told_with_advice_for_this_command():
    with pytest.raises(
        UserError, match=r"^no such file: nowhere\.pth \(in /.*\); weights are a file, published or random"
    ):
        method_of("test_resnet", weights="nowhere.pth")
    with pytest.raises(UserError, match="weights= names nothing"):
        method_of("test_resnet", weights="")


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


# --- published encoders of today, whose weights are the user's


@pytest.fixture
def shallow(monkeypatch):
    """timm's transformers with a single block: all else is as it is published, and made in a moment."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **more: create(name, **more, depth=1))
    return timm.create_model


PUBLISHED = [  # name, own side, numbers in a code, mean and deviation of its normalisation
    ("vit_small_patch16_dinov3", 256, 384, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
    ("vit_base_patch16_siglip_224", 224, 768, ((0.5,) * 3, (0.5,) * 3)),
    ("vit_base_patch16_siglip_gap_224", 224, 768, ((0.5,) * 3, (0.5,) * 3)),
]


@pytest.mark.parametrize(("name", "own", "width", "normal"), PUBLISHED)
def test_dinov3_and_siglip_are_read_at_the_size_they_want_or_another(name, own, width, normal, shallow):
    """The code: of DINOv3 the mean patch (class and registers apart), of SigLIP its attention's, by `gap` the mean."""
    assert method_of(name, side=None).classifier.side == own
    images = torch.rand(2, 3, 64, 64)
    torch.manual_seed(0)
    method = method_of(name, side=64, size=64)
    network, (mean, std) = method.classifier.network, normal
    with torch.no_grad():
        normalised = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        tokens = network.forward_features(normalised)
        if "siglip_224" in name:
            expected = network.attn_pool(tokens)
        else:
            expected = tokens[:, 5 if "dinov3" in name else 0 :].mean(dim=1)
        torch.testing.assert_close(method.encode(images), expected, rtol=1e-4, atol=1e-5)
    assert method.feature_dim == width and tokens.shape[1] == 16 + (5 if "dinov3" in name else 0)
    assert not torch.allclose(method.encode(images)[0], method.encode(images)[1])


def test_dinov3s_own_file_is_read_without_a_word_on_the_terminal(shallow, tmp_path, capfd):
    """As facebookresearch/dinov3 names its tensors: biases of queries, keys and values, with the keys' masked."""
    torch.manual_seed(1)
    trained = shallow("vit_small_patch16_dinov3").eval()
    renamed = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    state = {}
    for name, tensor in trained.state_dict().items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        state[name] = tensor
    state |= {"mask_token": torch.rand(1, 384), "rope_embed.periods": torch.rand(16)}
    state |= {f"blocks.0.attn.qkv.{name}": torch.zeros(3 * 384) for name in ("bias", "bias_mask")}
    torch.save(state, tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth")
    path, name = str(tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth"), "vit_small_patch16_dinov3"
    method = timm_encoder.Method(timm_encoder.Settings(name, path, 64), 64).eval()
    images = torch.rand(2, 3, 64, 64)
    normalised = (images - method.classifier.mean) / method.classifier.std
    with torch.no_grad():
        torch.testing.assert_close(method.encode(images), trained(normalised), rtol=1e-4, atol=1e-5)
    assert "renamed or converted as timm does" in method.notes[0] and method.family(method.settings) == "published"
    assert capfd.readouterr().out == ""


def test_siglips_image_tower_is_taken_out_of_open_clips_file_and_brought_to_size(shallow, tmp_path):
    name = "vit_base_patch16_siglip_224"
    trained = shallow(name).eval()
    state = {f"visual.trunk.{key}": tensor for key, tensor in trained.state_dict().items()}
    text = {"text.token_embedding.weight": torch.rand(9, 4), "logit_scale": torch.tensor(1.0)}
    save_file(state | text, tmp_path / "open_clip_model.safetensors")
    settings = timm_encoder.Settings(name, str(tmp_path / "open_clip_model.safetensors"), 64)
    method = timm_encoder.Method(settings, 64).eval()
    smaller = shallow(name, img_size=64).eval()
    positions = trained.pos_embed.detach().unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    positions = torch.nn.functional.interpolate(positions, (4, 4), mode="bicubic", antialias=True)
    smaller.load_state_dict(trained.state_dict() | {"pos_embed": positions.flatten(2).mT})
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(method.encode(images), smaller(2 * images - 1), rtol=1e-4, atol=1e-5)
    assert "pos_embed resampled from (1, 196, 768) to (1, 16, 768) as timm does" in method.notes[0]


# --- sizes


@pytest.mark.parametrize(
    ("name", "side", "shape"),
    [
        ("vit_tiny_patch16_224", 64, (1, 17, 192)),  # a class and 4×4 places
        ("test_vit_relpos", 96, None),
        ("swinv2_cr_tiny_ns_224", 64, None),
    ],
)
def test_a_network_of_one_size_is_built_for_the_side_that_is_asked_for(name, side, shape):
    method = method_of(name, side)
    torch.manual_seed(0)
    again = timm_encoder.Method(timm_encoder.Settings(name, side=side), 16).eval()
    torch.manual_seed(0)
    direct = timm.create_model(name, img_size=side).eval()
    images = torch.rand(2, 3, side, side)
    normal = (images - method.classifier.mean) / method.classifier.std
    with torch.no_grad():
        expected = direct.forward_head(direct.forward_features(normal), pre_logits=True)
        torch.testing.assert_close(again.encode(images), expected)
    assert shape is None or method.classifier.network.pos_embed.shape == shape


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        (
            "vit_tiny_patch16_224",
            72,
            r"72×72 pixels \(its patches of 16 pixels would leave .* 8 unseen\); it takes side=64, side=96",
        ),
        ("gcvit_xxtiny", 72, r"takes no images of 72×72 pixels .*; it takes side=64, side=96, side=224"),
        ("inception_v3", 32, "takes no images of 32×32 pixels .*; choose another side, such as its own, 299"),
    ],
)
def test_a_size_that_a_network_does_not_take_is_told_at_once(name, side, message):
    with pytest.raises(UserError, match=message):
        method_of(name, side)


def test_rows_from_before_widths_were_measured_are_stale_planned_and_measured_again(home, pack, console):
    run = train_run(home, make_recipe("timm:test_mambaout", pack, "tiny", 0, {}), pack, console)
    asked = {"setting": "frozen-probe"}
    count = measuring.measure(home, "landmarks", [run], pack, asked, console)
    good = read_rows(home)
    assert set(good["width"]) == {256} and not stale(good, {}).any()
    path = home.rows / "landmarks" / f"{run.folder.name}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shifted = [{**{k: v for k, v in line.items() if k not in ("width", "checksum")}, "value": 99.0} for line in lines]
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
