"""Figures: what is drawn is what the rows, logs and galleries say; files are small, alike in every byte, and describe
themselves; people stay out of results/figures."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from madeup import RECORD, displays, measured, store
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from mdebench.errors import UserError
from mdebench.figures import bars, curves, image_grids, learning_curves, paper_charts, write
from mdebench.figures.chart import loss_order, parts, usual
from mdebench.figures.image_grids import Grid, Strip, Tile
from mdebench.figures.write import GRIDS, charts_of, list_figures, write_figures
from mdebench.home import Home
from mdebench.results.galleries import RESAMPLING, Gallery, gallery_bytes, write_gallery
from mdebench.results.rows import keep_values


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "results" / "paper"
NOW = displays()
RUN = RECORD | {"scale": "tiny", "updates": 1200, "perceptual": "none", "status": "finished", "step": 1200}
JUDGE = "resnet18 on 20 identities of pack"
SCENARIOS = ("inpainting 0.25", "rec 0.1")
PRESETS = ("clean", "mouth")


def add_run(home, label="rec 0.1", losses="compl+adv", pack="toys", seed=0, **changes):
    """A finished run's record; returns its folder."""
    method, _, ratio = label.partition(" ")
    settings = {"variant": method, "S": float(ratio) if ratio else None, "losses": losses}
    name = f"{pack}-{label.replace(' ', '-S')}-{losses}-seed{seed}"
    record = {**RUN, "name": name, "method": method, "label": label, "settings": settings, "losses": losses}
    record |= {"pack": pack, "pack_note": f"{pack}: 300 images", "seed": seed, "batch": 24, "precision": "fp32"}
    folder = home.runs / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record | changes))
    return folder


def add_gallery(folder, scenario="rec 0.1", pack="toys", k=2, n=3, size=16, shade=None):
    """Images of noise (or one shade), a box in each channel, completions half as bright."""
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    if shade is not None:
        originals[:] = shade
    boxes = np.broadcast_to(np.float32([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1], [0.5, 0, 1, 0.5]]), (n, k, 3, 4)).copy()
    completed = np.repeat(originals[:, None] // 2, k, axis=1)
    write_gallery(folder, pack, Gallery(scenario, originals, boxes, rng.random(completed.shape) < 0.5, completed))


def add_pack(home, source, name="toys"):
    (home.packs / name).mkdir(parents=True)
    (home.packs / name / "pack.json").write_text(json.dumps({"source": source}))


def add_rows(home):
    """Rows for every chart: two variants, one of them with two loss sets, and the trivial lines."""
    for label, losses in (("rec 0.1", "compl"), ("rec 0.1", "compl+adv"), ("inpainting 0.25", "compl+adv")):
        facts = {"dataset": "toys", "losses": losses, "settings": {"S": 0.1, "losses": losses}}
        facts |= {"run": f"{label}-{losses}", "judge": JUDGE}

        def add(protocol, *found, label=label, facts=facts):
            key = f"{protocol}-{facts['run']}"
            store(home, label, [measured(*what) for what in found], protocol=protocol, key=key, **facts)

        better = len(losses) / 10
        add("completion", *((20 + better, "psnr/raw/image", s) for s in SCENARIOS))
        add("resampling", *((90 - k, "judge_agreement", f"step {k}") for k in (1, 2, 10)))
        add("hide_and_seek", (60, "seek_share", "rec 0.1"))
        if losses == "compl+adv":
            add("attributes", (14, "attribute_error"), (20, "attribute_error", "frozen-probe-1%"))
            add("landmarks", (1.25, "landmark_distance"))
            add("occlusion", (20, "psnr/raw/image", "mouth"))
            add("layers", *((15, "attribute_error", stage) for stage in ("code", "stage2", "stage1")))
            add("robustness", *((15 + k, "attribute_error", s) for k, s in enumerate((*PRESETS, "mouth, chosen fill"))))
            add("classes", (40, "accuracy", "probe"), (30, "accuracy", "knn"))
    for label, errors in (("pixels", (1, 2, 3, 4)), ("rec 0.3", (2, 4, 6, 8)), ("rec 0.5", ())):
        values = np.float32(errors) if errors else None
        found = [measured(np.mean(errors or 5), "landmark_distance_iod", unit="% of inter-ocular", values=values)]
        key = f"landmark errors of {label}"[::-1]
        keep_values(home, key, found)
        store(home, label, found, dataset="toys", key=key)
    for label, error in (("pixels", 12), ("random", 15), ("constant", 19.5)):
        store(home, label, [measured(error, "attribute_error")], protocol="attributes", dataset="toys")


def add_log(folder):
    steps = range(10, 1210, 10)
    lines = [{"step": s, "generator/rec": 1000 / s, "discriminator/adv": 1.5, "images_per_second": 9} for s in steps]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A home with something for every figure, and its figures."""
    home = Home(tmp_path_factory.mktemp("full"))
    add_pack(home, "toyfaces")
    add_rows(home)
    for losses in ("compl", "compl+adv"):
        folder = add_run(home, losses=losses)
        add_gallery(folder)
        add_gallery(folder, RESAMPLING, k=3)
    add_log(folder)
    return home, write_figures(home, NOW, quiet())


def quiet():
    from rich.console import Console

    return Console(quiet=True)


def table(home, stem, folder="figures"):
    return pd.read_csv(home.results / folder / f"{stem}.csv", dtype=str, keep_default_na=False)


def drawing_of(home, name):
    """The chart of a home's only part, and what draws it."""
    (part,) = parts(home, NOW)
    return next((chart, draw) for chart, draw in charts_of(part) if chart.name == name)


def chart_of(home, name):
    """The chart of a home's only part."""
    return drawing_of(home, name)[0]


def test_every_figure_is_written_as_picture_and_data(full):
    home, paths = full
    stems = {path.stem for path in paths}
    assert {path.name for path in paths} == {f"{stem}{ending}" for stem in stems for ending in (".png", ".csv")}
    protocols = ("layers", "robustness", "resampling", "hide_and_seek", "classes", "few_labels")
    protocols += ("robustness-chosen-fill", "landmark_errors")
    expected = {*GRIDS, *write.PAPER, *protocols, "learning"} - {"families"}  # rows here tell none
    assert {name for name in expected if any(stem.startswith(f"{name}-") for stem in stems)} == expected
    assert all(path.parent == home.figures and path.stat().st_size <= 400_000 for path in paths)
    found = list_figures(home)
    assert [figure.path for figure in found] == [home.figures / f"{f.path.stem}.png" for f in found]
    assert {figure.kind for figure in found if figure.path.stem.startswith(("figure1-", "figure5", "figure6"))} == {
        "images"
    }
    assert {figure.kind for figure in found if figure.path.stem.startswith(("figure8", "rank", "learning"))} == {
        "chart"
    }
    for figure in found:
        assert figure.csv and len(figure.alt) > 40 and "toys" in figure.title
        with Image.open(figure.path) as picture:
            picture.verify()
            assert "Software" not in picture.info and "Creation Time" not in picture.info


def test_names_are_by_figure_pack_and_scale(full):
    names = {path.name for path in full[1]}
    assert {"figure8-toys-small.png", "figure8-bars-toys-small.png", "rank-toys-small.csv"} <= names
    assert {"figure5-toys-tiny.png", "learning-toys-rec-S0.1-compl_adv-seed0.png".replace("_", "+")} <= names


def test_the_data_is_what_the_rows_say(full):
    found = table(full[0], "figure8-toys-small")
    lines = found[found["line"] == "inpainting 0.25"]
    assert set(lines["setting"]) == set(SCENARIOS)
    row = lines[lines["setting"] == "rec 0.1"].iloc[0]
    value = 20 + len("compl+adv") / 10
    assert [float(row[x]) for x in ("value", "low", "high")] == pytest.approx([value, value - 0.1, value + 0.1])
    assert (row["n"], row["seeds"], row["source"]) == ("330", "0", "rows")
    assert row["keys"] == "completion-inpainting 0.25-compl+adv"


def test_the_same_data_gives_the_same_bytes_and_is_not_drawn_again(full, tmp_path, monkeypatch):
    home, paths = full
    again = Home(tmp_path / "again")
    shutil.copytree(home, again, ignore=shutil.ignore_patterns("figures"))
    few = {"rank", "figure6"}
    for path in write_figures(again, NOW, quiet(), only=few):
        assert path.read_bytes() == (home.figures / path.name).read_bytes(), path.name
    before = {path: path.stat().st_mtime_ns for path in paths}
    monkeypatch.setattr(bars.Page, "__init__", None)  # whatever draws, fails
    monkeypatch.setattr(image_grids, "render", None)
    assert write_figures(home, NOW, quiet()) == paths
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_a_figure_is_drawn_again_when_a_row_is_new(home):
    store(home, "rec 0.1", [measured(1.25)], dataset="toys")
    (png, data) = write_figures(home, NOW, quiet())
    old = png.read_bytes()
    store(home, "rec 0.3", [measured(1.5)], dataset="toys")
    write_figures(home, NOW, quiet())
    assert png.read_bytes() != old and "rec 0.3" in data.read_text()


def test_seeds_stand_together_with_their_range(home):
    for seed, value in ((0, 1.0), (1, 1.2), (2, 1.7)):
        store(home, "rec 0.1", [measured(value)], dataset="toys", seed=seed)
    write_figures(home, NOW, quiet())
    (row,) = table(home, "rank-toys-small").query("source == 'rows'").to_dict("records")
    assert [float(row[x]) for x in ("value", "low", "high")] == pytest.approx([1.3, 0.9, 1.8])
    assert row["seeds"] == "0 1 2" and len(row["runs"].split(" rec")) == 3


@pytest.mark.parametrize(("dataset", "shown"), [("celeba64", True), ("toyfaces64", False)])
def test_published_numbers_stand_only_on_axes_of_their_readout_and_data(home, dataset, shown):
    """Those of a head are not on the axis of the probe; those of CelebA's occlusions not beside generated faces."""
    facts = {"dataset": dataset, "pack_note": f"{dataset}: 300 images, 64×64"}
    store(home, "rec 0.1", [measured(14, "attribute_error")], protocol="attributes", key="a", **facts)
    found = [measured(20, "psnr/raw/image", "mouth"), measured(0.8, "ssim/raw/image", "mouth")]
    store(home, "rec 0.1", found, protocol="occlusion", key="o", **facts)
    assert not any(panel.published for panel in chart_of(home, "rank").panels)
    chart = chart_of(home, "occlusion")
    with (PAPER / "table3.csv").open() as file:
        paper = {
            (row["label"], row["metric"]): row["value"] for row in csv.DictReader(file) if row["setting"] == "mouth"
        }
    told = {
        (name.removesuffix(", published"), panel.metric[:4]): cell.text
        for panel in chart.panels
        for (name, _), cell in panel.published.items()
    }
    assert told == (paper if shown else {}) and ("published" in chart.caption) == shown
    assert [line.name for line in chart.lines if "published" in line.name] == (
        ["CE, published", "GFC, published", "MDE, published"] if shown else []
    )


@pytest.mark.parametrize("name", ["figure8", "figure9", "rank", "resampling", "robustness", "landmark_errors"])
def test_nothing_leaves_the_page_and_no_text_is_small(full, name):
    chart, draw = drawing_of(full[0], name)
    figure = draw(chart)
    used = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
    width, height = figure.get_size_inches()
    assert used.x0 >= 0 and used.y0 >= 0 and used.x1 <= width and used.y1 <= height
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 9


def test_a_heat_map_frames_the_training_scenario_and_prints_the_best_bold(home):
    values = {("inpainting 0.25", "inpainting 0.25"): 25, ("inpainting 0.25", "rec 0.1"): 15}
    values |= {("rec 0.1", "inpainting 0.25"): 21, ("rec 0.1", "rec 0.1"): 19}
    for label in SCENARIOS:
        found = [measured(value, "psnr/raw/image", s) for (line, s), value in values.items() if line == label]
        store(home, label, found, protocol="completion", dataset="toys")
    chart = chart_of(home, "figure8")
    figure = curves.heat(chart)
    (axes,) = figure.axes
    assert [line.name for line in chart.lines] == list(SCENARIOS) == list(chart.settings)
    frames = {(round(p.get_x() + p.get_width() / 2), round(p.get_y() + p.get_height() / 2)) for p in axes.patches}
    assert frames == {(0, 0), (1, 1)}
    assert {t.get_text(): t.get_weight() for t in axes.texts} == {
        "25.0": "bold",
        "15.0": "normal",
        "21.0": "normal",
        "19.0": "bold",
    }


def test_ranks_go_from_best_to_worst(full):
    figure = bars.ranks(chart_of(full[0], "rank"))
    heights = {text.get_text(): text.xy[1] for text in figure.axes[0].texts}
    order = ["Raw pixels (ridge, 21×21)", "inpainting 0.25", "Random weights", "Constant (no image)"]
    assert [heights[name] for name in order] == sorted(heights[name] for name in order)


def test_a_long_heading_of_a_group_stays_on_the_page(full):
    """A setting may name a run: it begins at the page's edge, in a row that no bar has."""
    chart = chart_of(full[0], "figure8-bars")
    long = f"behind {'a-run-of-a-long-name-' * 2}seed0"
    first, second, *_ = chart.settings

    def renamed(panel):
        cells = {(line, setting): cell for (line, setting), cell in panel.cells.items() if setting in (first, second)}
        named = {(line, long if setting == first else setting): cell for (line, setting), cell in cells.items()}
        return replace(panel, cells=named, published={})

    chart = replace(chart, settings=(long, second), panels=tuple(map(renamed, chart.panels)))
    figure = bars.bars(chart)
    FigureCanvasAgg(figure).draw()
    page = figure.bbox
    told = [text for text in figure.findobj(Text) if text.get_text()]
    assert long in {text.get_text() for text in told}
    assert all(page.x0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= page.x1 for text in told)
    assert not any(axes.patch.get_visible() for axes in figure.axes[1:])  # none is painted over it


def test_layers_and_steps_are_in_their_order_with_what_they_are_compared_to(full):
    layers = chart_of(full[0], "layers")
    assert layers.settings == ("stage1", "stage2", "code")
    assert layers.panels[0].references == {"Raw pixels (ridge, 21×21)": 12}
    resampled = chart_of(full[0], "resampling")
    assert resampled.settings == ("step 0", "step 1", "step 2", "step 10")
    assert {cell.value for (_, step), cell in resampled.panels[0].cells.items() if step == "step 0"} == {100}
    origins = chart_of(full[0], "robustness").panels[0].origins
    assert origins == {("rec 0.1", "mouth"): 15, ("inpainting 0.25", "mouth"): 15}
    assert chart_of(full[0], "robustness").settings == PRESETS
    assert chart_of(full[0], "robustness-chosen-fill").settings == ("clean", "mouth, chosen fill")


def test_a_distribution_is_the_share_of_the_kept_values_below_each_bound(full):
    """Of 1, 2, 3, 4 half are at most 2 and all at most 4; a line without values is named."""
    chart = chart_of(full[0], "landmark_errors")
    (panel,) = chart.panels
    pixels, ours = "Raw pixels (ridge, 21×21)", "rec 0.3"
    assert {name for name, _ in panel.cells} == {pixels, ours} == {line.name for line in chart.lines}
    shares = {
        (name, float(setting.removeprefix("at most "))): cell.value for (name, setting), cell in panel.cells.items()
    }
    for bound, theirs, own in ((0, 0, 0), (1, 25, 0), (2, 50, 25), (3, 75, 25), (4, 100, 50), (8, 100, 100)):
        assert (shares[pixels, bound], shares[ours, bound]) == (theirs, own)
    assert max(bound for _, bound in shares) == 8
    assert "left out, no values kept: rec 0.5" in chart.caption
    assert "half of the images have at most 2.50 for Raw pixels (ridge, 21×21), 5.00 for rec 0.3" in chart.alt


def test_a_distribution_over_seeds_is_the_mean_of_theirs(home):
    for seed, errors in ((0, (1, 1, 4, 4)), (1, (1, 4, 4, 4))):
        found = [measured(np.mean(errors), "landmark_distance_iod", values=np.float32(errors))]
        keep_values(home, f"{seed} is the seed of this", found)
        store(home, "rec 0.1", found, dataset="toys", seed=seed, key=f"{seed} is the seed of this")
    (panel,) = chart_of(home, "landmark_errors").panels
    assert panel.cells["rec 0.1", "at most 1"].value == 37.5
    assert panel.cells["rec 0.1", "at most 1"].seeds == (0, 1)


def test_loss_sets_are_for_figure_9_and_the_others_say_what_they_leave_out(full):
    nine, eight = chart_of(full[0], "figure9"), chart_of(full[0], "figure8")
    assert [line.name for line in nine.lines] == ["compl", "compl+adv"]
    assert nine.settings == ("rec 0.1",)
    assert [line.name for line in eight.lines] == ["inpainting 0.25", "rec 0.1"]
    assert "rec 0.1 (losses=compl)" in eight.caption


def test_what_two_judges_say_has_two_panels(home):
    """Figure 9 compares loss sets under one judge: seed 0, seen with one loss set alone, is left out of it."""

    def add(losses, seed, judge, value):
        found = [measured(value, "inception_score/raw", "rec 0.1"), measured(10 * value, "psnr/raw/image", "rec 0.1")]
        facts = {"protocol": "completion", "losses": losses, "seed": seed, "judge": judge, "run": f"{losses}-{seed}"}
        store(home, "rec 0.1", found, settings={"losses": losses}, key=f"{losses}-{seed}", **facts)

    one, other = (f"{JUDGE}, weights {digest}" for digest in ("a1b2c3d4", "0badcafe"))
    add("compl+adv", 0, one, 1.0)
    add("compl", 1, other, 2.0)
    add("compl+adv", 1, other, 3.0)
    panels = chart_of(home, "figure8").panels
    assert [panel.metric for panel in panels] == ["psnr/raw/image", *["inception_score/raw"] * 2]
    assert [panel.title[-15:] for panel in panels[1:]] == ["judge 0badcafe)", "judge a1b2c3d4)"]
    score, psnr = chart_of(home, "figure9").panels
    assert {name: cell.value for (name, _), cell in score.cells.items()} == {"compl": 2.0, "compl+adv": 3.0}
    assert {name: cell.value for (name, _), cell in psnr.cells.items()} == {"compl": 20.0, "compl+adv": 30.0}


def test_the_usual_loss_set_is_what_most_lines_were_asked_for():
    full, plain = {"losses": "vgg+adv+hns_coord"}, {"losses": "compl"}
    lines = [
        ("a", "a", plain),
        ("b", "b", plain),
        ("c", "c1", plain),
        ("c", "c2", full),
        ("d", "d", full),
        ("e", "e", {}),
    ]
    rows = pd.DataFrame(lines, columns=["label", "line", "settings"])
    assert list(usual(rows)["line"]) == ["a", "b", "c1", "d", "e"]
    two = rows[rows["label"] == "c"]
    assert list(usual(two)["line"]) == ["c2"]  # the fuller of two that are as frequent


def test_loss_sets_go_from_completion_alone_to_the_full_loss():
    paper = ["compl", "compl+adv", "vgg+adv", "vgg+adv+hns", "vgg+adv+hns_coord"]
    assert sorted(set(paper), key=loss_order) == paper


def test_captions_say_what_a_reader_must_know(home):
    facts = {"perceptual": "imagenet", "judge": JUDGE, "protocol_version": NOW["landmarks"].version}
    store(home, "rec 0.1", [measured(1.25, n=77)], dataset="toys", **facts)
    chart = chart_of(home, "rank")
    for words in ("77 images measured", "pack: 1,000 images", "seed 0", "perceptual network imagenet", JUDGE, "95 %"):
        assert words in chart.caption
    assert "STALE" not in chart.caption
    (part,) = parts(home, displays(landmarks=NOW["landmarks"].version + 1))
    assert "STALE, measured by an older version of the protocol: rec 0.1" in paper_charts.ranking(part).caption


def test_only_what_is_asked_for(home, console):
    store(home, "rec 0.1", [measured(1.25)], dataset="toys")
    with pytest.raises(UserError, match=r"no figure 'figur9'.*Did you mean 'figure9'"):
        write_figures(home, NOW, console, only={"figur9"})
    with pytest.raises(
        UserError, match=r"figure9: there are no rows of completion .* give `mdebench reproduce figure9`"
    ):
        write_figures(home, NOW, console, only={"figure9"})
    assert [p.name for p in write_figures(home, NOW, console, only={"rank", "layers"})] == [
        "rank-toys-small.png",
        "rank-toys-small.csv",
    ]
    assert "layers: there are no rows of layers" in console.file.getvalue()


def test_an_empty_home_has_no_figures(home, console):
    assert write_figures(home, NOW, console) == [] == list_figures(home)
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(("source", "folder"), [("toyfaces", "figures"), ("celeba", "sheets"), (None, "sheets")])
def test_pictures_that_may_show_people_stay_out_of_the_repository(home, console, source, folder):
    if source:
        add_pack(home, source)
    add_gallery(add_run(home))
    paths = write_figures(home, NOW, console)
    assert {path.parent.name for path in paths} == {folder}
    assert ("may show people" in console.file.getvalue()) == (folder == "sheets")


def test_boxes_are_drawn_where_they_are_in_their_colours():
    image = np.full((20, 20, 3), 128, np.uint8)
    boxes = np.float32([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0, 0]])  # of blue nothing is seen
    painted = np.asarray(image_grids.paint(Tile(image, boxes), zoom=2))
    red, green, blue = image_grids.CHANNELS
    assert painted.shape == (40, 40, 3)
    assert tuple(painted[0, 0]) == tuple(painted[19, 10]) == tuple(painted[10, 19]) == red
    assert tuple(painted[20, 20]) == tuple(painted[39, 30]) == green
    inside = (painted == 128).all(axis=-1)
    assert inside[1:19, 1:19].all() and inside[21:39, 21:39].all() and not (painted == blue).all(axis=-1).any()
    same = np.asarray(image_grids.paint(Tile(image, np.tile(boxes[:1], (3, 1))), zoom=1))
    assert tuple(same[0, 0]) == image_grids.TOGETHER and (same[0, :10] == image_grids.TOGETHER).all()
    twice = np.asarray(image_grids.paint(Tile(image, boxes[[0, 0, 1]]), zoom=2))
    assert tuple(twice[0, 0]) == red and tuple(twice[1, 1]) == green  # the second inside the first


def test_grids_hold_the_gallerys_pixels(home):
    add_pack(home, "mnist")
    add_gallery(add_run(home), shade=(200, 40, 120), k=3, n=2)
    png, _ = write_figures(home, NOW, quiet(), only={"figure6"})
    with Image.open(png) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    completed, original = (int((pixels == shade).all(axis=1).sum()) for shade in ((100, 20, 60), (200, 40, 120)))
    side = 16 * round(image_grids.TARGET / 4 / (16 + 4))  # an original and three completions in a row
    assert completed == 2 * 3 * side**2  # completions, untouched
    assert original >= 2 * side**2  # originals
    rows = table(home, "figure6-toys-tiny").to_dict("records")
    assert [row["n"] for row in rows] == ["4"] * 4 and rows[0]["setting"] == "rec 0.1"
    assert rows[0]["source"] == "runs/toys-rec-S0.1-compl+adv-seed0/gallery/toys/rec-S0.1.npz"


def test_a_file_too_large_shows_fewer_images(monkeypatch, rng):
    monkeypatch.setattr(image_grids, "LIMIT", 40_000)
    monkeypatch.setattr(image_grids, "TARGET", 300)
    noise = rng.integers(0, 256, (6, 8, 32, 32, 3), np.uint8)

    def build(n):
        return {"": [Strip("", [Tile(image) for image in row[:n]], "", "", 0, "") for row in noise]}

    grid = Grid("figure5", "figure5-x", "x", "Title", "caption", "alt", (), (), build)
    data, groups = image_grids.png(grid, "stamp")
    assert len(data) <= image_grids.LIMIT and 1 <= len(groups[""][0].tiles) < 8


def test_many_strips_make_no_tower(rng):
    """Ten variants with three strips each: fewer images must not mean larger ones."""
    noise = rng.integers(0, 256, (30, 8, 64, 64, 3), np.uint8)

    def build(n):
        return {"": [Strip("", [Tile(image) for image in row[:n]], "", "", 0, "") for row in noise]}

    grid = Grid("figure5", "figure5-x", "x", "Title", "caption", "alt", (), (), build)
    for n in (8, 3, 1):
        picture = image_grids.render(grid, build(n))
        assert picture.width * picture.height < 1.2 * image_grids.MOST_PIXELS + 20_000 * n, n


def test_learning_curves_are_the_log(home):
    folder = add_run(home)
    add_log(folder)
    write_figures(home, NOW, quiet(), only={"learning"})
    found = table(home, f"learning-{folder.name}")
    assert list(found["panel"].unique()) == ["generator/rec", "discriminator/adv"]
    part = found[found["panel"] == "generator/rec"]
    assert [float(x) for x in part["value"]] == pytest.approx([1000 / step for step in range(10, 1210, 10)])
    assert list(part["setting"]) == [str(step) for step in range(10, 1210, 10)]


def test_a_long_log_is_averaged_in_equal_parts(home, monkeypatch):
    monkeypatch.setattr(learning_curves, "BINS", 2)
    folder = add_run(home)
    (folder / "log.jsonl").write_text(
        "".join(f'{{"step": {s}, "a/b": {v}}}\n' for s, v in ((1, 1), (2, 3), (3, 8), (4, 6)))
    )
    write_figures(home, NOW, quiet(), only={"learning"})
    found = table(home, f"learning-{folder.name}")[["setting", "value", "low", "high", "n"]].to_numpy().tolist()
    assert found == [["2", "2.0", "1.0", "3.0", "2"], ["4", "7.0", "6.0", "8.0", "2"]]


def test_damaged_files_are_named(home):
    folder = add_run(home)
    (folder / "log.jsonl").write_text("{no json\n")
    with pytest.raises(UserError, match=r"log\.jsonl is damaged"):
        write_figures(home, NOW, quiet(), only={"learning"})
    (home.figures).mkdir(parents=True)
    (home.figures / "rank-a-b.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"rank-a-b\.png is damaged"):
        list_figures(home)


def test_other_figures_are_drawn_where_something_is_damaged(home):
    """A log, a gallery with a header that is none, and a picture with other pixels than its checksum says."""
    whole, broken = add_run(home, status="interrupted"), add_run(home, seed=1)
    for folder in (whole, broken):
        (folder / "log.jsonl").write_text('{"step": 1, "a/b": 1.0}\n{"step": 2, "a/b"')  # the last cut by a kill
        add_gallery(folder)
    (broken / "log.jsonl").write_text('{"step": "x", "a/b": 1.0}\n')
    path = next((whole / "gallery" / "toys").glob("*.npz"))
    data = path.read_bytes()
    path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(UserError, match=r"(?s)(npz|log\.jsonl) is damaged.*; all other figures are drawn"):
        write_figures(home, NOW, quiet())
    assert (home.figures / f"learning-{whole.name}.png").exists()
    assert not (home.figures / f"learning-{broken.name}.png").exists()
    picture = home.figures / f"learning-{whole.name}.png"
    before, data = picture.read_bytes(), bytearray(picture.read_bytes())
    data[len(data) // 2] ^= 1
    picture.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"png is damaged .*delete it and write the figures again"):
        list_figures(home)
    with pytest.raises(UserError):  # of the gallery and the log, and the picture is drawn again
        write_figures(home, NOW, quiet())
    assert picture.read_bytes() == before


def test_a_name_is_no_formula_and_acts_in_no_figure(home):
    for label in ("a$\\frac{1}$b", "=cmd|x\x1b[31m$1"):
        folder = add_run(home, label, pack=f"pack{len(label)}")
        (folder / "log.jsonl").write_text('{"step": 1, "a/b": 1.0}\n')
        store(home, label, [measured(1.0)])
    for path in write_figures(home, NOW, quiet()):
        if path.suffix == ".csv":
            assert b"\x1b" not in path.read_bytes() and b",=" not in path.read_bytes()
    assert all("\x1b" not in figure.title + figure.alt for figure in list_figures(home))


def test_contact_sheets_are_figures_too(home):
    path = home.sheets / "toys-both_eyes.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(path)
    (sheet,) = list_figures(home)
    assert (sheet.kind, sheet.title, sheet.csv) == ("images", "toys: both eyes", None)
    assert "both eyes" in sheet.alt


@pytest.mark.parametrize("count", [0, 1, 2, 7, 12])
def test_names_lie_apart_and_in_order(count, rng):
    for spread, room in ((1, 0.08), (0.1, 0.08), (0, 0.01)):
        places = curves.apart(sorted(rng.random(count) * spread), room)
        assert len(places) == count
        assert all(after - before >= room - 1e-6 for before, after in pairwise(places))
        assert all(-1e-6 <= place <= 1 + 1e-6 for place in places)


def test_ticks_say_the_places_alone_where_all_are_in_one_manner(home):
    settings = ("0 %", "5 %", "10 %", "20 %", "5 %, test alone", "10 %, test alone", "20 %, test alone")
    store(
        home, "rec 0.1", [measured(15 + k, "attribute_error", s) for k, s in enumerate(settings)], protocol="alignment"
    )
    for name in ("alignment", "alignment-test-alone"):
        chart, draw = drawing_of(home, name)
        assert len(chart.settings) == 4
        (axes,) = (axes for axes in draw(chart).axes if axes.get_xticklabels())
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0 %", "5 %", "10 %", "20 %"]


def test_names_that_have_room_are_not_moved():
    assert curves.apart([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert curves.apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_the_smooth_curve_is_a_running_mean(rng):
    values = rng.random(200)
    smooth = curves.smooth(values)
    assert smooth[10:-10] == pytest.approx(np.convolve(values, np.ones(11) / 11, "same")[10:-10])
    assert smooth[0] == pytest.approx(values[0]) and curves.smooth(np.ones(3)) == pytest.approx(np.ones(3))


def test_figures_load_neither_torch_nor_pyplot():
    code = "import sys, mdebench.figures.write; sys.exit(bool({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_gallery_is_what_it_holds_and_not_how_its_archive_is_written(home):
    folder = add_run(home)
    add_gallery(folder)
    path = next((folder / "gallery" / "toys").glob("*.npz"))
    before, data = gallery_bytes(path), bytearray(path.read_bytes())
    data[10] ^= 1  # the time of the first member's own header, which nothing vouches for
    path.write_bytes(data)
    assert gallery_bytes(path) == before
    with np.load(path) as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["inputs" if "inputs" in changed else next(iter(changed))].flat[0] ^= 1
    np.savez_compressed(path, **changed)
    assert gallery_bytes(path) != before
