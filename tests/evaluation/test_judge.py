"""The judge: what it learns from, that it learns it, that a kill costs nothing, and what it tells of itself."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from mdebench.data.pack import SPLITS
from mdebench.errors import Interrupted, UserError
from mdebench.evaluation.judging import own_judge
from mdebench.evaluation.judging.judge import describe
from mdebench.evaluation.judging.judges import find_judge, judge_id, run_judge
from mdebench.evaluation.judging.own_judge import Method, OwnJudge, Settings, make_lesson
from mdebench.evaluation.judging.scores import inception_score
from mdebench.evaluation.passes import load
from mdebench.home import Home
from mdebench.methods.classifiers import load_classifier
from mdebench.runs import Run

QUICK = Settings(width=8, updates=80)
NONE = np.int32(-1)


def labelled(pack, label, **more):
    return replace(pack, label=np.asarray(label, np.int32), **more)


@pytest.fixture
def bright(pack):
    """The small pack in four classes by its mean brightness: easy to learn, and known for every image."""
    brightness = np.asarray(pack.images).mean(axis=(1, 2, 3))
    return labelled(pack, np.searchsorted(np.quantile(brightness, [0.25, 0.5, 0.75]), brightness) + 5)


def test_a_lesson_holds_out_a_tenth_of_each_class_and_takes_training_images_only(bright):
    lesson = make_lesson(bright)
    learned, held_out = lesson.view.indices("train"), lesson.view.indices("val")
    assert lesson.kind == "classes" and list(lesson.classes) == [5, 6, 7, 8]
    assert set(learned) | set(held_out) == set(bright.indices("train")) and not set(learned) & set(held_out)
    assert len(lesson.view.indices("test")) == 0
    for target, number in enumerate(lesson.classes):
        of_class = (bright.label == number) & (bright.split == SPLITS.index("train"))
        assert (lesson.targets[held_out] == target).sum() == of_class.sum() // 10
        assert np.array_equal(lesson.targets == target, bright.label == number)
    again = make_lesson(bright)
    assert np.array_equal(again.view.split, lesson.view.split)


def test_identities_take_part_where_there_are_enough_images(pack, monkeypatch):
    assert (pack.label == NONE).all()
    lesson = make_lesson(pack)  # three images of each of its eighty people
    assert lesson.kind == "identities" and len(lesson.classes) == 80
    assert np.array_equal(np.bincount(lesson.targets[lesson.view.indices("train")]), np.full(80, 2))
    assert np.array_equal(np.bincount(lesson.targets[lesson.view.indices("val")]), np.full(80, 1))
    identity, train = pack.identity.copy(), pack.indices("train")
    identity[train[:12]], identity[train[12:24]] = 7000, 8000  # two with many: only these
    assert list(make_lesson(replace(pack, identity=identity)).classes) == [7000, 8000]
    monkeypatch.setattr(own_judge, "MOST_CLASSES", 30)
    assert len(make_lesson(pack).classes) == 30


def test_without_classes_there_is_no_judge_and_that_is_said(home, pack, console):
    strangers = replace(pack, identity=np.full(len(pack.split), NONE))
    assert make_lesson(strangers) is None and find_judge(home, strangers, "own", console) is None
    said = console.file.getvalue()
    assert "neither classes nor identities" in said and "judge ARCH:FILE" in said
    assert find_judge(home, pack, "none", console) is None and not (home.judges).exists()
    assert judge_id(home, strangers, "own") == judge_id(home, pack, "none") == ""
    run_judge(home, strangers, "own", console)
    with pytest.raises(UserError, match="neither classes nor identities"):
        OwnJudge(home, strangers).trained(console)


def test_it_learns_its_classes_and_tells_how_well(home, bright, console):
    assert not OwnJudge(home, bright).run.info and judge_id(home, bright, "own") is None
    assert OwnJudge(home, bright).seconds_left > 0
    judge = OwnJudge(home, bright).trained(console, QUICK)
    lesson = make_lesson(bright)
    held_out, learned = lesson.view.indices("val"), lesson.view.indices("train")
    logits = judge.look(load(bright, held_out, torch.device("cpu"))).logits.numpy()
    accuracy = 100 * (logits.argmax(axis=1) == lesson.targets[held_out]).mean()
    assert judge.accuracy == pytest.approx(accuracy, abs=0.01) and accuracy > 60  # chance is 25
    assert f"held-out accuracy {accuracy:.1f} %" in judge.name and "4 classes of toyfaces16" in judge.name
    assert (judge.classes, judge.dim) == (4, 64) and "/" not in judge.id
    assert judge.id.rpartition("-")[2] in judge.name and any(judge.name in line for line in describe(judge))
    # Its training classes score high, images that are all alike 1 (Must show 4).
    alike = bright.batch(learned[:1]).float().div(255).repeat(40, 1, 1, 1)
    assert inception_score(judge.look(alike).logits)[0] == pytest.approx(1, abs=1e-4)
    score = inception_score(judge.look_at(bright, learned).logits, splits=1)[0]
    sharp = softmax(judge.look_at(bright, learned).logits.numpy(), axis=1).max(axis=1).mean()
    assert 1.5 < score <= 4 and sharp > 0.5
    # Finished: found, not trained again, whatever the defaults are.
    before, state = console.file.getvalue(), home.judge(bright.name).state_path
    written = state.stat().st_mtime_ns
    again = find_judge(home, bright, "own", console)
    assert (again.name, again.id) == (judge.name, judge.id) and console.file.getvalue() == before
    assert OwnJudge(home, bright).run.finished and judge_id(home, bright, "own") == judge.id
    assert OwnJudge(home, bright).seconds_left == 0 and state.stat().st_mtime_ns == written


def test_it_looks_at_each_image_by_itself_and_changes_nothing(home, bright, console):
    judge = OwnJudge(home, bright).trained(console, replace(QUICK, updates=3))
    images = load(bright, np.arange(70), torch.device("cpu"))
    look = judge.look(images)
    assert look.features.shape == (70, judge.dim) and look.logits.shape == (70, judge.classes)
    assert look.features.dtype == look.logits.dtype == torch.float32 and not look.logits.requires_grad
    torch.testing.assert_close(judge.look(images[66:67]).logits[0], look.logits[66])
    torch.testing.assert_close(judge.look_at(bright, np.arange(70)).features, look.features)
    assert torch.equal(judge.look(images).logits, look.logits)


def test_interrupted_it_goes_on_to_the_same_bits(home, bright, console, monkeypatch, tmp_path):
    short = replace(QUICK, updates=8)
    unbroken = OwnJudge(Home(tmp_path / "unbroken"), bright).trained(console, short)
    original, calls = Method.loss, []

    def loss(self, player, batch):
        calls.append(batch.step)
        if batch.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, player, batch)

    monkeypatch.setattr(Method, "loss", loss)
    with pytest.raises(Interrupted):
        OwnJudge(home, bright).trained(console, short)
    assert OwnJudge(home, bright).run.info["step"] > 0 and judge_id(home, bright, "own") is None
    assert 0 < OwnJudge(home, bright).seconds_left < OwnJudge(Home(tmp_path / "empty"), bright).seconds_left
    resumed = find_judge(home, bright, "own", console)  # with the settings it was begun with
    assert sorted(set(calls)) == list(range(8)) and calls.count(3) == 1  # done before the stop, and not again
    assert resumed.id == unbroken.id and resumed.accuracy == unbroken.accuracy
    assert "resuming" in console.file.getvalue()


def test_digits_are_never_mirrored(pack):
    images = pack.batch(np.arange(6)).float().div(255)
    still = replace(QUICK, shift=0.0, zoom=0.0)

    def moved(source):
        lesson = make_lesson(replace(pack, info={**pack.info, "source": source}))
        batch = own_judge.Batch(images, torch.arange(6), 0, 0, 0, torch.Generator().manual_seed(0), 10)
        return own_judge.build_judge(still, lesson)._moved(batch)

    torch.testing.assert_close(moved("mnist"), images, atol=1e-5, rtol=0)
    mirrored = (moved("toyfaces") - images.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    same = (moved("toyfaces") - images).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert mirrored.any() and same.any() and (mirrored | same).all()


def test_a_judge_of_another_pack_or_with_altered_weights_is_refused(home, bright, console):
    OwnJudge(home, bright).trained(console, replace(QUICK, updates=2))
    other = replace(bright, info={**bright.info, "hash": "ef" * 32})
    assert judge_id(home, other, "own") is None
    with pytest.raises(UserError, match=r"another version of toyfaces16; delete it"):
        find_judge(home, other, "own", console)
    run = home.judge(bright.name)
    state = run.load_state()
    state["method"]["classifier.network.fc.bias"] += 1
    Run(run.folder).save_state(state)
    with pytest.raises(UserError, match=r"other weights than run\.json says"):
        find_judge(home, bright, "own", console)


def test_run_judge_prints_the_yardstick(home, bright, console):
    OwnJudge(home, bright).trained(console, replace(QUICK, updates=2))
    run_judge(home, bright, "own", console)
    said = console.file.getvalue()
    for words in (
        "held-out accuracy",
        "Inception score of 218 train images of its classes",
        "test images: ",
        "FID",
        "KID",
    ):
        assert words in said, words


def test_run_judge_says_that_a_pack_has_no_test_images(home, bright, console):
    pack = replace(bright, split=np.where(bright.split == 2, 1, bright.split).astype(np.uint8))
    OwnJudge(home, pack).trained(console, replace(QUICK, updates=2))
    run_judge(home, pack, "own", console)
    assert "no scores of originals: toyfaces16 has no test images" in console.file.getvalue()


def test_run_judge_counts_the_splits_that_it_made(home, bright, console):
    OwnJudge(home, bright).trained(console, replace(QUICK, updates=2))
    for count, told in ((11, "(5 splits)"), (3, "")):
        split = bright.split.copy()
        split[bright.indices("test")[count:]] = 1
        run_judge(home, replace(bright, split=split), "own", console)
        line = next(line for line in console.file.getvalue().splitlines() if f"Inception score of {count} test" in line)
        assert ("±" in line, line.endswith("splits)")) == (bool(told), bool(told)) and told in line


def test_a_network_of_others_judges_in_its_place(home, bright, console, tmp_path):
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "w.safetensors")
    spec = f"test_resnet:{tmp_path / 'w.safetensors'}"
    judge = find_judge(home, bright, spec, console)
    classifier = load_classifier(spec)
    images = load(bright, np.arange(5), torch.device("cpu"))
    torch.testing.assert_close(judge.look(images).logits, classifier(images).logits)
    assert judge.id == classifier.name == judge_id(home, bright, spec) and str(tmp_path) not in judge.id + judge.name
    assert judge.classes == 3 and judge.accuracy is None and "not known" in describe(judge)[-1]
    assert not (home.judges).exists()


def test_a_network_without_classes_does_not_judge(home, bright, console, tmp_path):
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("eva02_tiny_patch14_224").state_dict(), tmp_path / "w.safetensors")
    spec = f"eva02_tiny_patch14_224:{tmp_path / 'w.safetensors'}"
    for ask in (lambda: find_judge(home, bright, spec, console), lambda: judge_id(home, bright, spec)):
        with pytest.raises(UserError, match="gives features, not classes; go on with"):
            ask()
