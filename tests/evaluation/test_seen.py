"""A run is not tested on images that it was trained on, whatever their pack is called; what nobody knows is said."""

import shutil

import numpy as np
import pytest
from madeup import displays

import mdebench
from mdebench.data import prepare
from mdebench.data.pack import open_pack
from mdebench.data.writer import PackWriter
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.home import Home
from mdebench.results.rows import read_rows
from mdebench.tables.write import build_tables
from mdebench.training import recipes

SMALL = {"width": "2", "code": "4", "updates": "2", "batch": "6"}
PROBE = {"setting": "frozen-probe"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home with 500 faces, five of each of 100 people, and a run of two updates on their training images."""
    home = Home(tmp_path_factory.mktemp("trained"))
    prepare("toyfaces", None, 16, home.packs, count=500)
    run_of(home, "rec")
    return home


@pytest.fixture
def home(trained, tmp_path):
    """A copy of it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return Home(tmp_path)


def run_of(home, method):
    from rich.console import Console

    pack = open_pack(home.pack("toyfaces16"))
    return recipes.train_run(home, recipes.make_recipe(method, pack, "tiny", 0, SMALL), pack, Console(quiet=True))


@pytest.fixture
def run(home):
    (run,) = home.list_runs()
    return run


def made_again(home, name, moved=0, changed=0):
    """The faces as another pack: `moved` images of train are in test, `changed` test images have another pixel."""
    old = open_pack(home.pack("toyfaces16"))
    images, split = np.array(old.images), old.split.copy()
    split[old.indices("train")[:moved]] = 2
    images[old.indices("test")[:changed], 0, 0, 0] ^= 1
    labels = {name: getattr(old, name) for name in ("attributes", "landmarks", "landmark_source", "identity")}
    with PackWriter(home.pack(name), 16, replace=True) as writer:
        writer.attribute_names = old.attribute_names
        writer.info |= {"crop": "", "resize": ""}
        writer.add(images, old.names, split, **labels)
        return open_pack(writer.finish())


def measured(home, run, pack, console, protocol="landmarks", settings=PROBE):
    measuring.measure(home, protocol, [run], pack, settings, console)
    rows = read_rows(home)
    return rows[(rows["pack_hash"] == pack.hash) & (rows["protocol"] == protocol)]


def test_a_run_keeps_which_images_it_was_trained_on(home, run):
    pack = open_pack(home.pack("toyfaces16"))
    kept = run.trained_on()
    assert len(kept) == len(pack.indices("train")) == 400 and run.trained_on_path.stat().st_size < 8 * 400 + 200
    assert np.isin(pack.digests(pack.indices("train")), kept).all()
    assert not np.isin(pack.digests(pack.indices("test")), kept).any()
    assert not run_of(home, "random").trained_on_path.exists()  # it learns from nothing
    run.trained_on_path.write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match=r"trained_on\.npy is damaged"):
        run.trained_on()


def test_a_run_begun_before_that_was_kept_keeps_it_when_it_goes_on(home, run, console):
    run.trained_on_path.unlink()
    run.update(status="interrupted")
    run_of(home, "rec")
    assert len(run.trained_on()) == 400


@pytest.mark.parametrize("name", ["toyfaces16", "renamed"])
def test_a_pack_made_again_with_training_images_in_its_test_partition_is_refused(home, run, console, name):
    pack = made_again(home, name, moved=12)
    told = rf"was trained on 12 of the 62 test images of {name} \(pack {pack.hash[:8]}; its own was toyfaces16, pack "
    encoder = mdebench.load(run.folder.name, home=home)
    for measure in (
        lambda: measured(home, run, pack, console),
        lambda: mdebench.measure(run.folder.name, "landmarks", pack, home=home, settings=PROBE),
        lambda: mdebench.measure(encoder, "landmarks", pack, home=home, settings=PROBE),
        lambda: mdebench.measure(encoder, "landmarks", pack, home=home.folder / "elsewhere", settings=PROBE),
    ):
        with pytest.raises(UserError, match=told):
            measure()
    assert read_rows(home).empty and read_rows(Home(home.folder / "elsewhere")).empty


def test_rows_that_are_there_already_do_not_hide_it(home, run, console):
    pack = made_again(home, "renamed", moved=12)
    kept = run.trained_on()
    run.keep_trained_on(kept[:0])
    assert len(measured(home, run, pack, console))  # as before anybody looked
    run.keep_trained_on(kept)
    with pytest.raises(UserError, match="12 of the 62 test images"):
        measured(home, run, pack, console)


def test_an_older_run_is_refused_as_long_as_its_pack_is_here(home, run, console):
    run.trained_on_path.unlink()
    pack = made_again(home, "renamed", moved=3)
    with pytest.raises(UserError, match="3 of the 53 test images of renamed"):
        measured(home, run, pack, console)
    assert "not known" not in console.file.getvalue()


def test_where_nobody_can_know_row_table_and_terminal_say_so(home, run, console):
    run.trained_on_path.unlink()
    own = open_pack(home.pack("toyfaces16")).hash[:8]
    replaced = made_again(home, "toyfaces16", moved=3)
    rows = measured(home, run, replaced, console)
    said = f"was trained on another pack called toyfaces16 (pack {own}, replaced by {replaced.hash[:8]})"
    assert f"{run.folder.name} {said}" in console.file.getvalue()
    told = "not known whether it was trained on test images: it kept no list, and its own pack"
    assert len(rows) and rows["note"].str.contains(told).all() and rows["note"].str.contains(own).all()
    assert f"{run.folder.name}: {told}" in console.file.getvalue()
    notes = "\n".join(build_tables(home, displays())[0].footnotes)
    assert told in notes and f"rec 0.1 on toyfaces16 (pack {own}, another version of it)" in notes


def test_another_pack_whose_test_images_are_new_is_measured_and_the_table_names_the_training_pack(home, run, console):
    rows = measured(home, run, made_again(home, "renamed", changed=50), console)
    own = open_pack(home.pack("toyfaces16"))
    assert set(rows["dataset"]) == {"renamed"} and set(rows["trained_on"]) == {"toyfaces16"}
    assert set(rows["trained_hash"]) == {own.hash} and not rows["note"].str.contains("trained|pretraining").any()
    notes = "\n".join(build_tables(home, displays())[0].footnotes)
    assert f"Not trained on the pack that they were measured on: rec 0.1 on toyfaces16 (pack {own.hash[:8]})." in notes


def test_what_was_never_trained_is_measured_on_anything_without_a_word(home, console):
    run = run_of(home, "random")
    rows = measured(home, run, made_again(home, "toyfaces16", moved=12), console)
    assert set(rows["trained_on"]) == set(rows["trained_hash"]) == {""}
    assert not rows["note"].str.contains("trained").any()
    assert "rained on the pack" not in "\n".join(build_tables(home, displays())[0].footnotes)


def test_twins_within_the_run_s_own_pack_are_refused_unless_they_are_kept_by_request(home, run, console):
    old = open_pack(home.pack("toyfaces16"))
    images = np.array(old.images)
    images[old.indices("test")[:2]] = images[old.indices("train")[:2]]
    with PackWriter(home.pack("twins16"), 16) as writer:  # as packs were made before anybody looked for twins
        writer.info |= {"crop": "", "resize": ""}
        writer.add(images, old.names, old.split, landmarks=old.landmarks, landmark_source=old.landmark_source)
        pack = open_pack(writer.finish())
    quiet = type(console)(quiet=True)
    other = recipes.train_run(home, recipes.make_recipe("rec", pack, "tiny", 0, SMALL), pack, quiet)
    with pytest.raises(UserError, match=r"2 of the 50 test images of twins16, as they are in its training .*--keep"):
        measured(home, other, pack, console)
    with PackWriter(home.pack("twins16"), 16) as writer:
        writer.info |= {"crop": "", "resize": ""}
        writer.add(images, old.names, old.split, landmarks=old.landmarks, landmark_source=old.landmark_source)
        writer.part_twins(keep=True)
        pack = open_pack(writer.finish())
    rows = measured(home, other, pack, console)
    assert len(rows) and rows["pack_note"].str.contains("2 images of val or test are also in train").all()
    with pytest.raises(UserError, match="2 of the 50 test images of twins16"):  # of another pack's no request was made
        pack.info["options"] = {}
        measured(home, run, pack, console)


def test_training_images_held_out_for_classes_are_said_to_have_been_seen(home, run, console):
    def note_of(run, pack):
        rows = measured(home, run, pack, console, "classes", {"setting": "knn"})
        assert set(rows["split"]) == {"held-out"}
        return rows[rows["run"] == run.folder.name]["note"].item()

    pack = open_pack(home.pack("toyfaces16"))
    assert "the encoder saw all of these 80 images in pretraining" in note_of(run, pack)
    assert "pretraining" not in note_of(run_of(home, "random"), pack)
