"""Encoders taken out: frozen, the same codes in every format, any network measured like a run, pictures embedded."""

import csv
import io
import json

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

import mdebench
from mdebench import catalog
from mdebench.errors import UserError
from mdebench.evaluation.encoders.embedding import embed
from mdebench.evaluation.encoders.encoder import Encoder
from mdebench.evaluation.encoders.export import export, load_export
from mdebench.suite.inventory.checking import SIZE, settings_of, trainer_of
from mdebench.training.recipes import make_recipe, train_run
from mdebench.training.trainer import weights_hash

SMALL = {"width": "2", "code": "4", "updates": "2", "batch": "4"}
IMAGES = torch.rand(70, 3, 16, 16, generator=torch.Generator().manual_seed(0))  # more than one chunk


@pytest.fixture
def run(home, pack, console):
    return train_run(home, make_recipe("rec", pack, "tiny", 0, SMALL), pack, console)


def encoder_of(name):
    """An untrained method as an encoder."""
    entry = catalog.method(name)
    method = trainer_of(entry).method
    facts = {"method": name, "label": name, "settings": settings_of(entry), "scale": "tiny", "size": SIZE, "seed": 0}
    return Encoder(name, method, {**facts, "feature_dim": method.feature_dim, "weights_hash": weights_hash(method)})


def test_a_loaded_run_gives_what_its_method_gives_and_never_trains(home, run):
    encoder = mdebench.load(run.folder.name, home=home)
    assert (encoder.size, encoder.feature_dim) == (16, 4) and not encoder.training
    before = weights_hash(encoder.method)
    codes = encoder.train()(IMAGES)
    assert not encoder.method.training and weights_hash(encoder.method) == before and not codes.requires_grad
    with torch.no_grad():
        expected = encoder.method.encode(IMAGES[:64].contiguous(memory_format=torch.channels_last))
    assert torch.equal(codes[:64], expected)
    maps = encoder.stages(IMAGES)
    assert [tuple(each.shape) for each in maps.values()] == [(70, 2, 8, 8), (70, 4, 4, 4)]
    seen = torch.ones(1, 3, 16, 16)
    seen[..., :8] = 0
    assert torch.equal(encoder.complete(IMAGES, seen), encoder.complete(IMAGES * seen, seen))
    assert torch.equal(mdebench.load(run.folder)(IMAGES), codes)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 16, 16), torch.zeros(2, 3, 16, 16, dtype=torch.uint8)]
)
def test_images_of_another_kind_are_told(home, run, images):
    with pytest.raises(UserError, match=r"takes float images \(N, 3, 16, 16\) in \[0, 1\], not"):
        mdebench.load(run.folder.name, home=home).encode(images)


def test_a_wrong_name_suggests_near_ones(home, run):
    with pytest.raises(UserError, match=f"Did you mean '{run.folder.name}'"):
        mdebench.load(run.folder.name[:-1] + "1", home=home)


@pytest.mark.parametrize("name", [n for n, e in catalog.own_methods().items() if hasattr(e.load().Method, "encode")])
def test_weights_of_every_encoder_come_back_to_the_bit(tmp_path, name):
    """Held against the encoder itself, whatever the exporter checked."""
    encoder = encoder_of(name)
    path = export(encoder, tmp_path / "encoder.safetensors")
    images = torch.rand(3, 3, SIZE, SIZE)
    loaded = load_export(path)
    assert torch.equal(loaded(images), encoder(images))
    about = json.loads((tmp_path / "encoder.safetensors.json").read_text())
    assert about["code"] == encoder.feature_dim and about["input"] == ["N", 3, SIZE, SIZE]
    assert about["record"]["weights_hash"] == encoder.info["weights_hash"]
    if hasattr(encoder.method, "stages"):
        ours, theirs = encoder.stages(images), loaded.stages(images)
        assert all(torch.equal(ours[stage], theirs[stage]) for stage in ours)
        trunk = loaded.trunk()
        assert trunk.forward_features(images).shape[1] == trunk.num_features == trunk(images).shape[1]


@pytest.mark.parametrize("name", ["rec", "mae", "glcic"])
def test_a_program_and_a_graph_give_the_same_codes(tmp_path, name):
    import onnxruntime

    encoder, images = encoder_of(name), torch.rand(3, 3, SIZE, SIZE)
    expected = encoder(images)
    export(encoder, tmp_path / "e.pt")
    program = torch.export.load(io.BytesIO((tmp_path / "e.pt").read_bytes())).module()
    torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-4)
    export(encoder, tmp_path / "e.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "e.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):  # any number of images
        codes = session.run(None, {"images": images[:count].numpy()})[0]
        np.testing.assert_allclose(codes, expected[:count], rtol=0, atol=1e-4)


def test_what_encoding_does_not_need_is_left_behind(tmp_path):
    encoder = encoder_of("rec")
    loaded = export(encoder, tmp_path / "e.safetensors")
    assert loaded.stat().st_size < sum(t.numel() * t.element_size() for t in encoder.method.state_dict().values()) / 2
    program = torch.export.load(io.BytesIO(export(encoder, tmp_path / "e.pt").read_bytes()))
    names = {name.removeprefix("method.") for name in program.state_dict}
    assert names and all(name.startswith("generator.encoder.") for name in names)  # no decoder, no discriminator
    with pytest.raises(UserError, match="exported encoder"):
        load_export(loaded).complete(torch.zeros(1, 3, SIZE, SIZE), torch.ones(1))


def test_a_timm_encoder_s_tensors_fit_timm_s_own_network(tmp_path):
    encoder = load_export(export(encoder_of("timm_encoder"), tmp_path / "e.safetensors"))
    network = timm.create_model("resnet18", num_classes=0)
    network.load_state_dict(encoder.trunk().state_dict(), strict=False)
    prefix = json.loads((tmp_path / "e.safetensors.json").read_text())["trunk"].split()[2].removesuffix(".")
    own = {name.removeprefix(prefix + "."): t for name, t in encoder.method.state_dict().items()}
    assert set(network.state_dict()) <= set(own)
    assert all(torch.equal(own[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["pixels", "constant"])
def test_where_there_is_no_trunk_it_says_so(name):
    with pytest.raises(UserError, match="shows no maps before its code"):
        encoder_of(name).trunk()


def test_a_file_that_is_none_of_ours_or_was_changed_is_told(tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    stranger = tmp_path / "stranger.safetensors"
    save_file({"weight": torch.zeros(2)}, stranger)
    with pytest.raises(UserError, match="no encoder that mdebench exported"):
        load_export(stranger)
    (tmp_path / "short.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged"):
        load_export(tmp_path / "short.safetensors")
    path = export(encoder_of("rec"), tmp_path / "e.safetensors")
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    changed = {name: tensor + 1 for name, tensor in load_file(path).items()}
    save_file(changed, path, metadata=metadata)
    with pytest.raises(UserError, match="holds other weights than it says"):
        load_export(path)
    for ending, way_on in (("onnx", "onnxruntime runs it"), ("pth", "pretrain timm:NAME --set weights=")):
        with pytest.raises(UserError, match="no such file"):
            mdebench.load(tmp_path / f"e.{ending}")
        (tmp_path / f"e.{ending}").write_bytes(b"a graph")
        with pytest.raises(UserError, match=f"is not loaded here.*{way_on}"):
            mdebench.load(tmp_path / f"e.{ending}")


def test_a_flipped_bit_of_a_file_is_never_another_encoder(tmp_path, rng):
    """Neither other weights nor another record: a size, a way to crop, a name."""
    path = export(encoder_of("rec"), tmp_path / "e.safetensors")
    data, whole = path.read_bytes(), load_export(path)
    header = 8 + int.from_bytes(data[:8], "little")
    for place in [*rng.integers(8, header, 60), *rng.integers(header, len(data), 20)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = load_export(path)
        except UserError:
            continue
        assert found.info == whole.info and weights_hash(found.method) == weights_hash(whole.method)


def test_a_file_that_would_give_other_codes_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("mdebench.evaluation.encoders.export._difference", lambda encoder, file: 0.5)
    with pytest.raises(UserError, match=r"would differ from the encoder's by 0\.5"):
        export(encoder_of("rec"), tmp_path / "e.pt")
    assert list(tmp_path.iterdir()) == []


# --- measuring any of them


def test_an_exported_run_is_measured_to_the_same_bits(home, run, pack, tmp_path):
    name = run.folder.name
    path = export(mdebench.load(name, home=home), tmp_path / "encoder.safetensors")
    ours = mdebench.measure(name, "attributes", pack, home=home, settings={"updates": 20})
    theirs = mdebench.measure(
        mdebench.load(path), "attributes", pack, home=tmp_path / "other", settings={"updates": 20}
    )
    assert len(ours) > 2 and ours.drop(columns="time").equals(theirs.drop(columns="time"))
    assert ours.equals(mdebench.measure(name, "attributes", pack, home=home, settings={"updates": 20}))  # kept
    assert mdebench.rows(home)["key"].isin(ours["key"]).all()
    with pytest.raises(UserError, match="cannot complete"):
        mdebench.measure(mdebench.load(path), "occlusion", pack, home=home)


def test_an_exported_encoder_is_not_read_after_completions_of_a_decoder_it_lacks(home, run, pack, tmp_path):
    path = export(mdebench.load(run.folder.name, home=home), tmp_path / "encoder.safetensors")
    theirs = mdebench.measure(mdebench.load(path), "robustness", pack, home=tmp_path / "other")
    assert set(theirs["setting"]) >= {"mouth, biharmonic", "mouth, chosen fill"}
    assert not theirs["setting"].str.contains("own completion").any()
    assert theirs.loc[theirs["setting"] == "clean", "note"].str.contains("an exported encoder has no decoder").all()


def resnet18():
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()
    return network


HOW = {"size": 32, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def test_any_network_is_measured_with_its_preprocessing(home, pack):
    network = resnet18()
    rows = mdebench.measure(network, "attributes", pack, home=home, settings={"setting": "frozen-probe"}, **HOW)
    assert set(rows["method"]) == {"ResNet"} and rows["run"].iloc[0].startswith("ResNet-")
    assert rows["settings"].iloc[0] == {**HOW, "mean": list(HOW["mean"]), "std": list(HOW["std"]), "stages": []}
    other = mdebench.measure(network, "attributes", pack, home=home, settings={"setting": "frozen-probe"}, **HOW)
    assert rows.equals(other)
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] += 1
    changed = mdebench.measure(network, "attributes", pack, home=home, settings={"setting": "frozen-probe"}, **HOW)
    assert changed["weights_hash"].iloc[0] != rows["weights_hash"].iloc[0] and len(changed) == len(rows)


def test_the_preprocessing_is_what_was_said(pack):
    """Against torchvision's own resizing and normalising."""
    from mdebench.evaluation.encoders.encoder import wrap

    class Seen(nn.Module):
        def forward(self, images):
            self.images = images
            return images.flatten(1)

    encoder = wrap(Seen(), images=16, stages=(), name=None, scale="tiny", **HOW)
    encoder.encode(IMAGES[:2])
    from torchvision.transforms import v2

    bicubic = v2.InterpolationMode.BICUBIC
    expected = v2.functional.resize(IMAGES[:2], [32, 32], bicubic, antialias=True).clamp(0, 1)
    expected = v2.functional.normalize(expected, HOW["mean"], HOW["std"])
    torch.testing.assert_close(encoder.method.network.images, expected, rtol=0, atol=1e-5)


def test_stages_asked_for_by_name_are_measured(home, pack):
    rows = mdebench.measure(
        resnet18(), "layers", pack, home=home, name="resnet18", stages=("layer1", "layer2"), scale="tiny", **HOW
    )
    assert set(rows["setting"]) == {"layer1", "layer2", "code"} and set(rows["label"]) == {"resnet18"}


@pytest.mark.parametrize(
    ("protocol", "how", "message"),
    [
        ("attributes", {}, r"size=… pixels a side, mean=… and std=…"),
        ("attributes", {**HOW, "std": (0, 1, 1)}, "std above 0"),
        ("attributes", {**HOW, "mean": (0.5,)}, "each of red, green and blue"),
        ("layers", HOW, r"stages=\[…\]"),
        ("layers", {**HOW, "stages": ("layer9",)}, "no module 'layer9'. Did you mean"),
        ("layers", {**HOW, "stages": ("avgpool", "fc")}, r"fc of ResNet gives no map"),
        ("occlusion", HOW, "cannot complete images"),
        ("atributes", HOW, "Did you mean 'attributes'"),
        ("attributes", {**HOW, "name": "rec"}, "name of a method of the suite"),
    ],
)
def test_what_a_network_lacks_is_told(home, pack, protocol, how, message):
    with pytest.raises(UserError, match=message):
        mdebench.measure(resnet18(), protocol, pack, home=home, **how)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(3, 3), "cannot take images of 32×32"),
        (nn.Flatten(0), r"gives a tensor \(6144,\) for 2 images"),
    ],
)
def test_a_network_that_gives_no_codes_is_told(home, pack, network, message):
    with pytest.raises(UserError, match=message):
        mdebench.measure(network, "attributes", pack, home=home, **HOW)


# --- a folder of pictures


@pytest.fixture
def folder(tmp_path, rng):
    for place, (width, height) in {"b/1 [x].png": (178, 218), "a.png": (20, 31), "c.jpg": (300, 200)}.items():
        path = tmp_path / "pictures" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path, quality=95)
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def test_codes_of_a_folder_are_those_of_its_pictures_in_the_order_of_the_list(folder, tmp_path, console):
    encoder = encoder_of("rec")
    codes, listed = embed(encoder, folder, tmp_path / "out[1]" / "codes.npy", console)
    with listed.open() as file:
        names = [line["file"] for line in csv.DictReader(file)]
    assert names == ["a.png", "b/1 [x].png", "c.jpg"]
    found = np.load(codes)
    assert found.shape == (3, encoder.feature_dim) and found.dtype == np.float32
    with Image.open(folder / "a.png") as picture:  # the square in the middle, by Pillow
        square = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(0, 5.5, 20, 25.5))
    alone = encoder.encode(torch.tensor(np.asarray(square)).permute(2, 0, 1)[None].float() / 255)
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-4, atol=1e-5)
    said = console.file.getvalue()
    assert "broken.jpg: not a JPEG" in said and "1 of 4 pictures left out" in said


def test_pictures_are_cropped_as_the_run_s_pack_was(folder, tmp_path, console):
    encoder = encoder_of("rec")
    middle = np.load(embed(encoder, folder, tmp_path / "middle.npy", console)[0])
    encoder.info["crop"] = "square of side 0.75·W centred at (W/2, 121/218·H)"
    face = np.load(embed(encoder, folder, tmp_path / "face.npy", console)[0])
    changed = (middle != face).any(axis=1)
    assert list(changed) == [False, True, False] and "of another shape than CelebA's" in console.file.getvalue()


def test_an_empty_folder_is_told(tmp_path, console):
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="there is no picture under"):
        embed(encoder_of("rec"), tmp_path / "none", tmp_path / "codes.npy", console)


class Doubled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.flat = nn.Flatten()
        self.factor = factor

    def forward(self, images):
        return self.factor * self.flat(images) if self.factor > 1 else self.flat(images)


class Other(Doubled):
    def forward(self, images):
        return -self.flat(images)


def test_networks_that_differ_in_more_than_weights_are_not_taken_for_one_another(home, pack):
    small = {**HOW, "size": 16, "name": "same"}
    asked = {"setting": "frozen-probe"}
    networks = (nn.Flatten(), nn.Sequential(nn.ReLU(), nn.Flatten()), Doubled(1), Other(1))
    keys = {mdebench.measure(n, "landmarks", pack, home=home, settings=asked, **small)["key"].iloc[0] for n in networks}
    assert len(keys) == 4


def test_a_network_stays_as_it_was(home, pack):
    network = resnet18().train()
    before = [parameter.clone() for parameter in network.parameters()]
    mdebench.measure(network, "landmarks", pack, home=home, settings={"setting": "frozen-probe"}, **HOW)
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters()))


@pytest.mark.parametrize("name", ["a/../../b", "a|b\n# c", 3, "..", "-x"])
def test_a_name_is_no_path(home, pack, name):
    with pytest.raises(UserError, match="a name is made of letters"):
        mdebench.measure(nn.Flatten(), "landmarks", pack, home=home, **{**HOW, "name": name})
    assert len(mdebench.rows(home)) == 0


@pytest.mark.parametrize(
    "mistake",
    [
        lambda encoder, pack: encoder.encode(np.zeros((2, 3, 16, 16), np.float32)),
        lambda encoder, pack: encoder.encode(7),
        lambda encoder, pack: encoder.complete(IMAGES, torch.ones(3, 5)),
        lambda encoder, pack: encoder.complete(IMAGES, None),
        lambda encoder, pack: mdebench.open_pack(None),
        lambda encoder, pack: mdebench.measure(encoder, "landmarks", None),
        lambda encoder, pack: mdebench.measure(lambda x: x, "landmarks", pack),
        lambda encoder, pack: mdebench.measure(nn.Flatten(), "landmarks", pack, **{**HOW, "size": "16"}),
        lambda encoder, pack: mdebench.measure(nn.Flatten(), "landmarks", pack, **{**HOW, "mean": 0.5}),
        lambda encoder, pack: mdebench.measure(nn.LazyLinear(3), "landmarks", pack, **HOW),
    ],
)
def test_a_mistake_in_python_is_a_sentence(home, run, pack, mistake):
    with pytest.raises(UserError):
        mistake(mdebench.load(run.folder.name, home=home), pack)


def test_the_home_that_the_environment_names_is_meant_where_none_is_named(home, run, monkeypatch):
    monkeypatch.setenv("MDEBENCH_HOME", str(home))
    assert mdebench.load(run.folder.name).feature_dim == 4 and mdebench.open_pack("toyfaces16").size == 16
