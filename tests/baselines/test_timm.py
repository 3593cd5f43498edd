"""timm's networks as encoders: the right maps in the right places, weights that are really those asked for."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from mdebench import catalog
from mdebench.baselines import timm_encoder
from mdebench.errors import UserError
from mdebench.methods.networks import Generator, TimmEncoder


@pytest.mark.parametrize(
    ("name", "skips"), [("resnet10t", (0, 64, 64, 128)), ("convnext_atto", (0, 0, 40, 80))], ids=["resnet", "convnext"]
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
        ("timm:vit_tiny_patch16_224", "maps of stride 16, 16, 16"),
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
