"""Pictures put every pixel where they say."""

import numpy as np
import pytest

from mdebench.data import contact_sheet, open_pack
from mdebench.data.writer import PackWriter
from mdebench.pictures import captioned, draw_box, draw_landmarks, enlarge, grid

RED = np.full((10, 8, 3), (255, 0, 0), np.uint8)
BLUE = np.full((10, 8, 3), (0, 0, 255), np.uint8)


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


@pytest.mark.parametrize("zoom", [1, 3])
def test_grid_shows_every_cell_whole(zoom: int) -> None:
    sheet = np.asarray(grid([[RED, None, BLUE], [BLUE]], ["first", "second"], ["a", "", "c"], zoom))
    assert share(sheet, (255, 0, 0)) == 80 * zoom**2 and share(sheet, (0, 0, 255)) == 160 * zoom**2
    red, blue = (np.argwhere((sheet == colour).all(axis=2)) for colour in ((255, 0, 0), (0, 0, 255)))
    assert red[:, 0].max() < blue[:, 0].max() and red[:, 1].max() < blue[:, 1].max()


def test_grid_without_labels_is_no_larger_than_its_cells() -> None:
    plain = grid([[RED, BLUE]])
    assert plain.size == (2 * 8 + 3 * 4, 10 + 2 * 4)
    labelled = grid([[RED, BLUE]], ["a row"], ["x", "y"])
    assert labelled.width > plain.width and labelled.height > plain.height


@pytest.mark.parametrize("cells", [[], [[None]], [[RED, RED[:5]]]])
def test_grids_that_are_none(cells: list[list[np.ndarray | None]]) -> None:
    with pytest.raises(ValueError, match="one size"):
        grid(cells)


def test_landmarks_are_centred_where_they_belong_and_unknown_ones_are_not_drawn() -> None:
    black = np.zeros((120, 60, 3), np.uint8)
    points = np.array([[0.25, 0.5], [np.nan, 0.5], [7.0, 7.0]])
    drawn = draw_landmarks(black, points)
    assert not black.any()
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert rows.mean() == pytest.approx(60, abs=1) and columns.mean() == pytest.approx(15, abs=1)
    np.testing.assert_array_equal(draw_landmarks(black, np.full((5, 2), np.nan)), black)


def test_box_frames_exactly_its_rows_and_columns() -> None:
    drawn = draw_box(np.zeros((20, 30, 3), np.uint8), (4, 10, 7, 21), (9, 9, 9))
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (4, 10, 7, 21)
    assert not drawn[5:9, 8:20].any()


def test_enlarge_repeats_pixels() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(enlarge(image, 2)[::2, 1::2], image)


def test_caption_keeps_the_image_and_the_width() -> None:
    image = captioned(RED.repeat(6, 1), "a caption that is far too long for it", "two")
    assert image.shape[1] == 48 and image.shape[0] > 30
    np.testing.assert_array_equal(image[:10], RED.repeat(6, 1))


def test_contact_sheet_shows_every_split(tmp_path_factory: pytest.TempPathFactory) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    split = np.array([0] * 90 + [1] * 6 + [2] * 4)
    images = np.broadcast_to(colours[split][:, :, None, None], (100, 3, 8, 8))
    with PackWriter(tmp_path_factory.mktemp("packs") / "test8", 8) as writer:
        writer.info |= {"source": "test", "crop": "none", "resize": "none"}
        writer.add(images, [f"folder/{i}.png" for i in range(100)], split, label=split)
        pack = open_pack(writer.finish())
    sheet = np.asarray(contact_sheet(pack, rows=3, columns=3))
    cell = 112**2
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert share(sheet, colour) == 3 * cell
    assert contact_sheet(pack, rows=50, columns=10).width == contact_sheet(pack, rows=2, columns=10).width
