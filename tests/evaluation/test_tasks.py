"""What is asked and how it is scored: one draw, several draws, values per image, and which images are classes' own."""

from dataclasses import replace

import numpy as np
import pytest
from mocks import COUNT, TEST, make_pack

from mdebench import catalog
from mdebench.evaluation import tasks
from mdebench.evaluation.readouts import Readout
from mdebench.evaluation.tasks.classes import misclassified


@pytest.fixture
def full():
    rng = np.random.default_rng(3)
    return make_pack(
        labels=(rng.random((COUNT, 6)) < 0.4).astype(int),
        points=rng.random((COUNT, 5, 2)),
        classes=rng.permutation(np.arange(COUNT) % 4),
    )


KINDS = (tasks.Attributes, tasks.Landmarks, tasks.Classes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_headline_is_the_mean_of_its_values_and_several_draws_their_mean(full, kind):
    rng = np.random.default_rng(1)
    scored = kind.of(full)
    guesses = rng.random((5, len(scored.rows), scored.task.targets.shape[1])).astype(np.float32)
    each = [scored.headline(Readout("s", guess, "said")) for guess in guesses]
    mean = scored.headline(Readout("s", guesses, "said"))
    assert mean.value == pytest.approx(np.mean([one.value for one in each]))
    np.testing.assert_allclose(mean.values, np.mean([one.values for one in each], axis=0), rtol=1e-5)
    assert mean.values.mean() == pytest.approx(mean.value, rel=1e-5)
    assert mean.values.dtype == np.float32 and len(mean.values) == mean.n == 20
    assert mean.low < mean.value < mean.high
    assert mean.note.startswith("said")


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_scores_perfectly(full, kind):
    scored = kind.of(full)
    headline = scored.headline(Readout("s", scored.task.targets[scored.rows]))
    assert headline.value == (100 if kind is tasks.Classes else 0)
    assert (headline.values == headline.value).all()


def test_wrong_attributes_of_each_image_by_hand(full):
    attributes = tasks.Attributes.of(full)
    guess = np.zeros((20, 6), np.float32)
    expected = 100 * full.attributes[TEST].mean(axis=1)
    np.testing.assert_allclose(attributes.headline(Readout("s", guess)).values, expected, rtol=1e-6)


def test_an_unknown_attribute_leaves_its_image_without_influence():
    """19 of 20 known and wrong: the error is 100 %, over the known."""
    labels = np.ones((COUNT, 2))
    labels[:50] = 0
    labels[95, 1] = -1
    attributes = tasks.Attributes.of(make_pack(labels=labels))
    guess = np.zeros((20, 2), np.float32)
    guess[10:, 1] = 1
    headline = attributes.headline(Readout("s", guess))
    by_name = {each.metric: each for each in attributes.each(Readout("s", guess))}
    known, unknown = by_name["attribute_error/A0"], by_name["attribute_error/A1"]
    assert (known.values == 100).all() and known.n == 20
    assert unknown.n == 19 and unknown.value == pytest.approx(100 * 10 / 19)
    assert unknown.values[15] == pytest.approx(unknown.value)
    wrong = unknown.value + 20 / 19 * (100 - unknown.value)
    assert unknown.values[:10] == pytest.approx(wrong) and headline.n == 20
    np.testing.assert_allclose(headline.values, (known.values + unknown.values) / 2, rtol=1e-6)


def test_only_the_labels_that_a_pack_has_are_asked(full):
    assert [type(scored) for scored in tasks.known(full, KINDS)] == list(KINDS)
    some = make_pack(points=full.landmarks)
    assert [type(scored) for scored in tasks.known(some, KINDS)] == [tasks.Landmarks]
    assert tasks.lacking(some, KINDS) is None
    nothing = tasks.lacking(make_pack(), KINDS)
    for word in ("attribute", "landmarks", "classes"):
        assert word in nothing


# --- landmarks


def test_landmarks_are_measured_point_by_point(full):
    """The left eye is off by six tenths of the distance between the eyes, in half of the images the nose by a tenth."""
    points = full.landmarks[TEST].copy()
    between = np.linalg.norm(points[:, 0] - points[:, 1], axis=1, keepdims=True)
    points[:, 0, :1] += 0.6 * between
    points[10:, 2, 1:] += 0.1 * between[10:]
    found = {m.metric: m for m in tasks.Landmarks.of(full).measure(Readout("s", points.reshape(20, 10)), "test")}
    for name, percent in (("lefteye", 60), ("righteye", 0), ("nose", 5), ("leftmouth", 0), ("rightmouth", 0)):
        assert found[f"landmark_distance_iod/{name}"].value == pytest.approx(percent, abs=1e-3)
    assert found["landmark_distance_iod"].value == pytest.approx(13, abs=1e-3)
    np.testing.assert_allclose(found["landmark_distance_iod"].values, np.repeat([12, 14], 10), rtol=1e-4)
    assert found["landmark_share_10"].value == 0
    half = points.copy()
    half[:10] = full.landmarks[TEST][:10]
    near = tasks.Landmarks.of(full).measure(Readout("s", np.stack([half, points]).reshape(2, 20, 10)), "test")[2]
    assert (near.metric, near.value, near.unit) == ("landmark_share_10", 25, "%")
    assert near.values.tolist() == [50] * 10 + [0] * 10


def test_images_are_named_where_they_are_not_just_the_test_partition(full):
    whole = tasks.Landmarks.of(full)
    guess = np.zeros((20, 10), np.float32)
    assert all(each.images is None for each in whole.measure(Readout("s", guess), "test"))
    points = full.landmarks.copy()
    points[85] = np.nan
    points[90, 1] = points[90, 0]  # both eyes at one point
    some = tasks.Landmarks.of(make_pack(points=points))
    pixels, *relative = some.measure(Readout("s", guess[1:]), "test")
    assert pixels.images.tolist() == [i for i in range(80, 100) if i != 85]
    for each in relative:
        assert each.images.tolist() == [i for i in range(80, 100) if i not in (85, 90)]
        assert len(each.values) == each.n == 18


# --- classes


def test_classes_of_the_pack_are_told_apart_on_its_test_images(full):
    classes = tasks.Classes.of(full)
    assert classes.split == "test"
    np.testing.assert_array_equal(classes.rows, np.arange(80, 100))
    np.testing.assert_array_equal(classes.task.targets.argmax(axis=1), full.label)
    assert "4 classes" in classes.note


def test_test_images_of_a_class_that_never_trained_are_left_out():
    labels = np.arange(COUNT) % 4
    labels[90:] = 9
    classes = tasks.Classes.of(make_pack(classes=labels))
    np.testing.assert_array_equal(classes.rows, np.arange(80, 90))
    assert "10 test images of other classes left out" in classes.note
    assert np.isnan(classes.task.targets[95]).all()


def identities():
    """Training images of 3 identities with 30, 15 and 11 images and one with 4; all others are of identities 100+."""
    return np.concatenate([np.repeat([7, 3, 5, 1], [30, 15, 11, 4]), np.arange(100, 140)])


def test_identities_that_do_not_recur_are_told_apart_on_a_fifth_that_trains_nothing():
    values = identities()
    classes = tasks.Classes.of(make_pack(identities=values))
    rows = classes.task.partition
    assert classes.split == "held-out"
    assert {name: int((values[classes.rows] == name).sum()) for name in (7, 3, 5, 1)} == {7: 6, 3: 3, 5: 2, 1: 0}
    used = [classes.rows, rows.train, rows.val]
    assert sorted(np.concatenate(used)) == list(range(56))  # disjoint, and no other identity
    assert classes.rows[:2].tolist() == [4, 9]
    assert "3 identities with 11 to 30 training images" in classes.note
    np.testing.assert_array_equal(np.array([3, 5, 7])[classes.truth[:56]], values[:56])


def test_identities_that_recur_are_told_apart_on_the_test_images():
    values = identities()
    values[85:90] = 3
    classes = tasks.Classes.of(make_pack(identities=values))
    assert classes.split == "test"
    np.testing.assert_array_equal(classes.rows, np.arange(85, 90))


def test_accuracy_decides_and_the_squared_error_breaks_ties():
    truth = np.eye(3)
    sure, unsure, wrong = truth, 0.4 * truth + 0.2, np.roll(truth, 1, axis=0)
    errors = [misclassified(x.astype(np.float32), truth) for x in (sure, unsure, wrong)]
    assert errors[0] == 0 and errors[0] < errors[1] < 1e-3 and 100 <= errors[2] < 100.001


def test_identities_with_few_images_are_no_classes():
    reason = tasks.Classes.lacking(make_pack(identities=np.arange(COUNT) // 4))
    assert "neither classes nor identities with 5 training images" in reason
    assert tasks.Classes.lacking(make_pack(identities=np.arange(COUNT) // 5)) is None


def test_test_images_without_a_label_are_unlabelled_and_those_of_other_classes_are_told_apart():
    classes = np.arange(COUNT) % 3
    classes[90:94], classes[94:96] = -1, 7
    scored = tasks.Classes.of(make_pack(classes=classes))
    assert scored.note == "3 classes; 4 unlabelled test images left out; 2 test images of other classes left out"
    assert scored.rows.tolist() == [*range(80, 90), *range(96, 100)]


def test_where_no_test_image_is_labelled_that_is_why_others_are_held_out():
    classes = np.arange(COUNT) % 3
    classes[TEST] = -1
    scored = tasks.Classes.of(make_pack(classes=classes))
    assert scored.split == "held-out" and scored.note.endswith("the classes of test images are unknown")
    few = np.full(COUNT, -1)
    few[:6] = np.arange(6) % 2
    assert tasks.Classes.lacking(make_pack(classes=few)) == "all 20 test images of mock64 are unlabelled"


def test_test_images_without_any_attribute_are_counted_as_unlabelled():
    labels = np.tile(np.arange(COUNT) % 2, (2, 1)).T
    labels[80:83], labels[83, 0] = -1, -1
    scored = tasks.Attributes.of(make_pack(labels=labels))
    headline = scored.headline(Readout("s", scored.task.targets[scored.rows]))
    assert "3 unlabelled test images left out" in headline.note and headline.n == 17 and headline.value == 0
    labels[TEST] = -1
    said = "all 20 test images of mock64 are unlabelled: none has a known attribute"
    assert tasks.Attributes.lacking(make_pack(labels=labels)) == said


def test_three_of_five_points_are_said_as_that():
    points = np.full((COUNT, 5, 2), np.nan)
    none = "mock64 has no image with landmarks in its train and test partition"
    assert tasks.Landmarks.lacking(make_pack(points=points)) == none
    points[:10, :3] = 0.5
    said = "10 images have 3 of the five points (lefteye, righteye and nose); none has all five"
    assert tasks.Landmarks.lacking(make_pack(points=points)).endswith(said)
    points[10:12, :4], points[12:15] = 0.5, 0.5
    said = tasks.Landmarks.lacking(make_pack(points=points))
    assert "no image with all five landmarks in its test partition" in said
    assert "2 images have 4 of the five points" in said and said.endswith("3 have all five (3 train, 0 val, 0 test)")


def test_test_images_without_all_points_are_counted():
    points = np.full((COUNT, 5, 2), 0.5)
    points[80:84, 4] = np.nan
    scored = tasks.Landmarks.of(make_pack(points=points))
    headline = scored.headline(Readout("s", scored.task.targets[scored.rows]))
    assert headline.n == 16 and "4 test images without all five landmarks left out" in headline.note


@pytest.mark.parametrize("name", catalog.own_protocols())
def test_a_pack_without_test_images_is_refused_as_that(full, name):
    split = np.where(full.split == 2, 1, full.split).astype(np.uint8)
    pack = replace(full, split=split, info=full.info | {"source": "folder"})
    said = catalog.protocol(name).requires(pack)
    assert "mock64 has no test images (60 train, 40 val, 0 test): say in a column `split`" in said
    assert said.endswith("`mdebench data prepare folder … --replace`") and said.count("column `split`") == 1
