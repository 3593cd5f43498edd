"""Weight files as trainers leave them: loaded as their own libraries load them, and told; all else refused by name."""

import argparse
import io
import json
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from mdebench.baselines import timm_encoder
from mdebench.errors import UserError
from mdebench.evaluation.judging.judges import find_judge
from mdebench.methods.checkpoints import file_hash, read
from mdebench.methods.classifiers import trained
from mdebench.methods.perceptual import load_perceptual
from mdebench.training.recipes import make_recipe, train_run


def method_of(name, file, side):
    return timm_encoder.Method(timm_encoder.Settings(name, str(file), side), side).eval()


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def resnet():
    """torchvision's ResNet-18, whose batch-norm statistics are not those of a fresh one, and another one's weights."""
    torch.manual_seed(0)
    network, other = (torchvision.models.resnet18(weights=None, num_classes=7) for _ in range(2))
    network.train()(torch.rand(4, 3, 64, 64))
    return network.eval(), other.state_dict()


WRAPPINGS = {
    "plain": (lambda own, other: own, None),
    "model": (lambda own, other: {"model": own, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, '"model"'),
    "ddp": (lambda own, other: {"state_dict": prefixed(own, "module.")}, 'from "state_dict", without "module."'),
    "nested": (lambda own, other: prefixed(own, "module.backbone."), 'without "module.backbone."'),
    "ema": (lambda own, other: {"model": other, "model_ema": own}, 'from "model_ema"; rather than "model"'),
    "teacher": (
        lambda own, other: {"student": prefixed(other, "module."), "teacher": prefixed(own, "backbone.")},
        'from "teacher", without "backbone."; rather than "student"',
    ),
    "compiled": (lambda own, other: prefixed(own, "_orig_mod.module."), 'without "_orig_mod.module."'),
    "moco": (
        lambda own, other: {"state_dict": prefixed(own, "module.encoder_q.") | prefixed(other, "module.encoder_k.")},
        'without "module.encoder_q."; rather than "module.encoder_k."',
    ),
    "learner": (
        lambda own, other: prefixed(own, "net.") | prefixed({"0.weight": torch.ones(9, 512)}, "projector."),
        'without "net."; left: 1 that the network does not have (projector)',
    ),
    "wrapped within": (
        lambda own, other: {name.replace("layer1.", "layer1.module."): tensor for name, tensor in own.items()},
        'without "module."',
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_resnet_of_torchvision_in_any_wrapping_gives_its_own_features(wrapping, resnet, tmp_path):
    network, other = resnet
    wrap, told = WRAPPINGS[wrapping]
    torch.save(wrap(network.state_dict(), other), tmp_path / "w.pth")
    method = method_of("resnet18", tmp_path / "w.pth", 32)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        trunk = torch.nn.Sequential(*list(network.children())[:-1], torch.nn.Flatten())
        torch.testing.assert_close(
            method.encode(images), trunk((images - method.classifier.mean) / method.classifier.std)
        )
    assert told in method.notes[0] if told else len(method.notes) == 1  # how images are normalised is always said
    # The name tells the weights, not their wrapping.
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    assert method.told == method_of("resnet18", tmp_path / "plain.pth", 32).told


# Where the weights of a trainer's file are that its authors measure, and what is told of it.
TRAINERS = {
    "dino": (
        lambda own, other: {
            "student": prefixed(other, "module.backbone.") | {"module.head.mlp.0.weight": torch.zeros(2, 2)},
            "teacher": prefixed(own, "backbone.") | {"head.mlp.0.weight": torch.zeros(2, 2)},
        },
        'from "teacher", without "backbone."; rather than "student", which would fit too; left: 1 .*\\(head\\)',
    ),
    "byol": (
        lambda own, other: prefixed(own, "online_encoder.net.") | prefixed(other, "target_encoder.net."),
        'without "online_encoder.net."; rather than "target_encoder.net.".*target_encoder ×77',
    ),
    "i-jepa": (
        lambda own, other: {"encoder": prefixed(other, "module."), "target_encoder": prefixed(own, "module.")},
        'from "target_encoder", without "module."; rather than "encoder"',
    ),
    "lightning": (
        lambda own, other: {"state_dict": prefixed(other, "net.backbone.") | prefixed(own, "net.ema_backbone.")},
        'without "net.ema_backbone."; rather than "net.backbone."',
    ),
    "vissl": (
        lambda own, other: {"classy_state_dict": {"base_model": {"model": {"trunk": prefixed(own, "_blocks.")}}}},
        'from "classy_state_dict.base_model.model.trunk", without "_blocks."',
    ),
    "swa": (
        lambda own, other: {"n_averaged": torch.tensor(3)} | prefixed(own, "module."),
        r'without "module."; left: 1 that the network does not have \(n_averaged\)',
    ),
    "an extra": (lambda own, other: own | {"rotation.weight": torch.zeros(4, 2)}, r"left: 1 .* \(rotation\)"),
}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_of_several_weights_in_a_file_those_that_are_measured_are_taken(trainer, tmp_path):
    own, other = (timm.create_model("test_resnet").state_dict() for _ in range(2))
    wrap, told = TRAINERS[trainer]
    torch.save(wrap(own, other), tmp_path / "w.pth")
    torch.save(own, tmp_path / "own.pth")
    found = trained("test_resnet", str(tmp_path / "w.pth"))
    assert found.name == trained("test_resnet", str(tmp_path / "own.pth")).name
    assert re.search(told, found.notes[0]), found.notes


def test_an_mae_at_another_size_is_resampled_as_timm_does_and_its_decoder_is_left(tmp_path):
    torch.manual_seed(0)
    small = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0)
    torch.nn.init.normal_(small.pos_embed)
    decoder = {"mask_token": torch.zeros(1, 1, 64), "decoder_pos_embed": torch.zeros(1, 17, 64)}
    decoder |= {f"decoder_blocks.{i}.mlp.fc1.weight": torch.zeros(256, 64) for i in range(4)}
    torch.save({"model": small.state_dict() | decoder, "epoch": 400}, tmp_path / "mae.pth")
    method = method_of("vit_tiny_patch16_224", tmp_path / "mae.pth", 96)
    direct = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=0).eval()
    position = resample_abs_pos_embed(small.pos_embed.detach(), (6, 6), num_prefix_tokens=1)
    direct.load_state_dict(small.state_dict() | {"pos_embed": position})
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        expected = direct((images - method.classifier.mean) / method.classifier.std)
        torch.testing.assert_close(method.encode(images), expected)
    note, _ = method.notes  # the other: how images are normalised
    assert 'mae.pth: 150 tensors, taken from "model"; pos_embed resampled from (1, 17, 192) to (1, 37, 192)' in note
    assert "left: 6 that the network does not have (decoder_blocks ×4, mask_token, decoder_pos_embed)" in note


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about how timm interpolates
@pytest.mark.parametrize("name", ["test_vit_relpos", "swin_tiny_patch4_window7_224", "test_convnext"])
def test_other_networks_of_timm_are_loaded_as_timm_loads_them(name, tmp_path, monkeypatch):
    """timm's own loading, given the tensors; relative position tables of another window are resampled, too."""
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("something was fetched"))
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    sizes = ({"img_size": 128}, {"img_size": 64}) if fixed else ({}, {})
    state = timm.create_model(name, **sizes[0]).state_dict()
    state = {key: torch.randn_like(each) if each.is_floating_point() else each for key, each in state.items()}
    state = {key: each.abs() if key.endswith("running_var") else each for key, each in state.items()}
    save_file(state, tmp_path / "w.safetensors")
    overlay = {"state_dict": dict(state), "num_classes": 1000}
    direct = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **sizes[1])
    found = trained(name, str(tmp_path / "w.safetensors"), 64)
    for key, tensor in found.network.state_dict().items():
        assert torch.equal(tensor, direct.state_dict()[key]), key
    assert any("resampled" in note for note in found.notes) == any(
        state[k].shape != v.shape for k, v in direct.state_dict().items()
    )


def test_names_of_others_become_timms_as_timm_has_it(tmp_path):
    """Facebook's ConvNeXt, behind a prefix that timm does not expect."""
    network = timm.create_model("convnext_atto", num_classes=4)
    renames = {"stem.": "downsample_layers.0.", "head.norm.": "norm.", "head.fc.": "head.", "conv_dw": "dwconv"}
    renames |= {f"stages.{i}.downsample.": f"downsample_layers.{i}." for i in range(4)}
    renames |= {"mlp.fc": "pwconv", ".blocks.": "."}
    theirs = {}
    for name, tensor in network.state_dict().items():
        for ours, of_them in renames.items():
            name = name.replace(ours, of_them)
        theirs[f"module.{name}"] = tensor
    torch.save({"model": theirs}, tmp_path / "w.pth")
    classifier = trained("convnext_atto", str(tmp_path / "w.pth")).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network.eval()((images - classifier.mean) / classifier.std)
        classifier.side = None
        torch.testing.assert_close(classifier(images).logits, expected)
    assert "renamed or converted as timm does" in classifier.notes[0]


def test_a_classifying_layer_of_another_making_is_left(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    torch.save(state | {"fc.weight": torch.zeros(7, 5), "fc.bias": torch.zeros(7)}, tmp_path / "w.pth")
    classifier = trained("test_resnet", str(tmp_path / "w.pth"))
    assert (
        classifier.headless
        and "its classifying layer left, which has another shape (fc.weight (7, 5))" in classifier.notes[0]
    )


# --- refused


def test_what_does_not_fit_is_told_by_name_and_shape(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    first = next(iter(state))
    stranger = {f"vit.encoder.{i}.weight": torch.zeros(2) for i in range(5)}
    less = {name: tensor for name, tensor in state.items() if not name.startswith("layer2")}
    other, short = state | {first: torch.zeros(2, 3)}, prefixed(state | {first: torch.zeros(2)}, "a.")
    not_a_number = state | {first: torch.full_like(state[first], torch.nan)}
    cases = {
        "few": (less, r"of the 75 tensors of timm's test_resnet \d+ are missing \(layer2\.0"),
        "shape": (other, rf"75 tensors .* 1 is of another shape \({first} is \(2, 3\), not \("),
        "stranger": (stranger, r"75 are missing .*; 5 are the file's alone \(vit\.encoder\.0\.weight"),
        "nested": ({"net": short}, r'test_resnet \(from "net", without "a\."\) 1 is of another'),
        "int8": (
            {name: each.to(torch.int8) for name, each in state.items()},
            rf"{first} is torch.int8, not torch.float32",
        ),
        "nan": (not_a_number, rf"values that are no numbers \(NaN\), in {first}"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match=message):
            trained("test_resnet", str(tmp_path / f"{name}.pth"))


def bytes_of(content, **how):
    data = io.BytesIO()
    torch.save(content, data, **how)
    return data.getvalue()


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


TENSORS = {"a": torch.arange(100.0)}
OTHERS = {
    "args": (
        lambda: bytes_of({"model": TENSORS, "args": argparse.Namespace(lr=1)}),
        r"\(argparse.Namespace\) and was not",
    ),
    "args, old": (
        lambda: bytes_of({"args": argparse.Namespace(lr=1)}, _use_new_zipfile_serialization=False),
        r"\(argparse.Namespace\) and was not loaded.*torch\.save\(torch\.load\(.*weights_only=False",
    ),
    "numpy": (lambda: bytes_of({"model": TENSORS, "best": np.float64(0.5)}), r"multiarray\.scalar.*was not loaded"),
    "whole": (lambda: bytes_of(torch.nn.Linear(2, 2)), r"linear\.Linear\).*of a whole network save its state_dict\(\)"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "is a pickle, which can run code, and was not opened"),
    "cut": (lambda: bytes_of(TENSORS)[:-200], "is cut short or damaged"),
    "cut, old": (lambda: bytes_of(TENSORS, _use_new_zipfile_serialization=False)[:-5], "is cut short or damaged"),
    "empty": (lambda: b"", "is empty"),
    "page": (lambda: b"\xef\xbb\xbf\n<!DOCTYPE html><title>Google Drive - Virus scan warning", "is a web page"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git lfs pull"),
    "text": (lambda: json.dumps({"weight_map": {}}).encode(), "is a text that begins with '{\"weight_map"),
    "graph": (lambda: b"\x08\x07\x12\x07pytorch\x1a\x052.0.1" + bytes(99), "is an ONNX graph"),
    "program": (lambda: zipped(**{"w/data.pkl": b"", "w/constants.pkl": b"", "w/version": b"3"}), "is a program"),
    "archive": (lambda: zipped(**{"w.pth": bytes_of(TENSORS)}), r"is a zip archive of w\.pth: unpack it"),
    "arrays": (lambda: zipped(**{"a.npy": b""}), "is a NumPy archive"),
    "picture": (lambda: b"\xff\xd8\xff\xe0" + bytes(99), "is no weight file"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(99), "is packed by gzip"),
    "list": (lambda: bytes_of([torch.zeros(1)]), "has no tensors under names .it holds a list"),
    "plain": (lambda: bytes_of({"epoch": 3, "lr": 0.1}), "has no tensors under names .it holds epoch, lr"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_that_holds_no_weights_is_told_for_what_it_is(kind, tmp_path):
    make, message = OTHERS[kind]
    (tmp_path / "w.pth").write_bytes(make())
    with pytest.raises(UserError, match=message) as told:
        read(tmp_path / "w.pth")
    assert "\n" not in str(told.value) and str(tmp_path / "w.pth") in str(told.value)


def test_safetensors_are_known_by_their_bytes_and_told_when_cut(tmp_path):
    for letters in range(1, 200, 7):  # the first byte, of the header's length, may be that of any other kind of file
        save_file({"a" * letters: torch.ones(3)}, tmp_path / "w.bin")
        assert torch.equal(read(tmp_path / "w.bin").mappings[""]["a" * letters], torch.ones(3))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.bin").read_bytes()[:-4])
    with pytest.raises(UserError, match="is cut short or damaged"):
        read(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match=r"is a folder: name the weight file itself, such as .*cut\.safetensors"):
        read(tmp_path)


# --- judges and perceptual networks


def test_a_judges_wrapping_is_told(home, pack, console, tmp_path):
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    torch.save({"state_dict": prefixed(state, "module.")}, tmp_path / "w.pth")
    judge = find_judge(home, pack, f"test_resnet:{tmp_path / 'w.pth'}", console)
    assert judge.classes == 3
    assert 'note judge w.pth: 75 tensors, taken from "state_dict", without "module."' in console.file.getvalue()


def test_a_perceptual_network_is_found_in_a_wrapping(tmp_path):
    vgg = torchvision.models.vgg16(weights=None).features[:9]
    state = prefixed(vgg.state_dict(), "module.features.")
    torch.save({"state_dict": state | {"module.classifier.0.weight": torch.zeros(2, 2)}}, tmp_path / "vgg.pth")
    network = load_perceptual(str(tmp_path / "vgg.pth"))
    images = torch.rand(1, 3, 16, 16)
    expected = vgg((images - network.mean) / network.std)
    torch.testing.assert_close(network(images)[1], expected)


def test_a_run_goes_on_with_its_own_perceptual_weights_only(home, pack, console, tmp_path):
    path = tmp_path / "vgg.safetensors"
    sets = {"losses": "vgg+adv", "perceptual": str(path), "width": "2", "code": "4", "updates": "2", "batch": "2"}

    def train():
        return train_run(home, make_recipe("rec", pack, "tiny", 0, {"S": "0.1", **sets}), pack, console)

    def write(seed):
        torch.manual_seed(seed)
        save_file(prefixed(torchvision.models.vgg16(weights=None).features[:4].state_dict(), "features."), path)

    write(0)
    run = train()
    assert run.finished and run.info["files"].keys() == {"perceptual"}
    run.update(status="interrupted", step=1)
    write(1)
    with pytest.raises(UserError, match="holds a run made of another file: that of perceptual="):
        train()
    write(0)
    assert train().finished


def test_a_changed_byte_is_told_where_there_are_checksums(tmp_path):
    """torch looks at none, and can be told to write none: then all of them are 0, and the file is read."""
    state = {name: torch.ones_like(value) for name, value in timm.create_model("test_resnet").state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    data = bytearray((tmp_path / "w.pth").read_bytes())
    data[largest.header_offset + largest.file_size // 2] ^= 1
    (tmp_path / "changed.pth").write_bytes(data)
    with pytest.raises(UserError, match=r"changed.pth is cut short or damaged: copy or download it again"):
        read(tmp_path / "changed.pth")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "none.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    for name in ("w.pth", "none.pth"):
        (tensors,) = read(tmp_path / name).mappings.values()
        assert all(torch.equal(tensors[key], value) for key, value in state.items() if value.is_floating_point())


def test_a_pipe_is_no_weight_file(tmp_path):
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="is a pipe, not a file"):
        read(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="is a pipe, not a file"):
        file_hash(tmp_path / "w.safetensors")
