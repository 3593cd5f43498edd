"""The networks against the paper's figures: widths, maps, parameters, and what a skip connection carries."""

import pytest
import torch

from mdebench.errors import UserError
from mdebench.methods.networks import Discriminator, Encoder, Generator, stages_for


@pytest.mark.parametrize(("size", "stages", "side"), [(96, 5, 3), (64, 4, 4), (128, 5, 4), (48, 4, 3), (32, 3, 4)])
def test_the_encoder_stops_at_three_or_four(size, stages, side):
    assert stages_for(size) == stages
    trunk = Encoder(size, 2, 5).trunk
    last, skips = trunk(torch.zeros(1, 3, size, size))
    assert last.shape == (1, trunk.out_channels, side, side)
    assert [s.shape[-1] for s in skips] == [size >> i for i in range(stages)]


@pytest.mark.parametrize("size", [90, 100, 7])
def test_other_sizes_are_refused(size):
    with pytest.raises(UserError, match="choose a size among"):
        stages_for(size)


def test_generator_of_the_paper_has_about_79_million_parameters():
    with torch.device("meta"):
        generator = Generator(96)
    assert sum(p.numel() for p in generator.parameters()) / 1e6 == pytest.approx(79, abs=0.5)
    assert generator.encoder.map_shape == (512, 3, 3)


def test_convolutions_of_the_paper():
    with torch.device("meta"):
        trunk = Encoder(96, 64, 4000).trunk
    widths = [[block[0].out_channels for block in stage] for stage in trunk.stages]
    assert widths == [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]
    strides = [[block[0].stride[0] for block in stage] for stage in trunk.stages]
    assert strides == [[1, 2], [1, 2], [1, 1, 2], [1, 1, 2], [1, 1, 2]]


def test_output_is_an_image_and_boxes_are_relative():
    generator, discriminator = Generator(32, 4, 8), Discriminator(32, 4)
    image = generator(torch.rand(2, 3, 32, 32))
    assert image.shape == (2, 3, 32, 32) and image.min() > 0 and image.max() < 1
    logit, boxes = discriminator(image)
    assert logit.shape == (2,) and boxes.shape == (2, 3, 4) and boxes.min() > 0 and boxes.max() < 1


@pytest.mark.parametrize("skips", [(), (1,), (2, 3)])
def test_only_the_chosen_stages_are_skipped_over(skips):
    """With the code's way into the decoder cut, the output still depends on the image exactly when there is a skip."""
    generator = Generator(32, 4, 8, skips).eval()
    torch.nn.init.zeros_(generator.encoder.to_code[0].weight)
    a, b = generator(torch.rand(2, 3, 32, 32))
    assert torch.equal(a, b) == (not skips)


def test_a_skip_of_a_stage_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="stages"):
        Generator(32, 4, 8, (4,))


def test_coordinates_break_translation_invariance_only_with_coord():
    """Global average pooling of a constant image cannot tell places apart; two extra channels can."""
    assert Discriminator(32, 4, coord=True).trunk.stages[0][0][0].in_channels == 5
    assert Discriminator(32, 4, coord=False).trunk.stages[0][0][0].in_channels == 3
    xy = Discriminator(4 * 8, 2).coordinates
    assert xy[0, 0, 0, 0] < xy[0, 0, 0, -1] and xy[0, 1, 0, 0] == xy[0, 1, 0, -1]


def test_maps_are_those_on_the_way_to_the_code():
    encoder = Encoder(64, 4, 10).eval()
    images = torch.rand(2, 3, 64, 64)
    code, before_stride = encoder(images)
    maps = encoder.maps(images)
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        "stage1": (4, 32, 32), "stage2": (8, 16, 16), "stage3": (16, 8, 8), "stage4": (32, 4, 4)
    }  # fmt: skip
    torch.testing.assert_close(encoder.to_code(maps["stage4"].flatten(1)), code)
    for stage, before, after in zip(encoder.trunk.stages, before_stride, maps.values(), strict=True):
        torch.testing.assert_close(list(stage.children())[-1](before), after)
