"""Readouts: ridge against scikit-learn, the head against an Adam step by hand, and a frozen encoder that stays so."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from timm_sweep import tensors_moved
from torch import nn

from mdebench.data.pack import Pack, unlabelled
from mdebench.errors import UserError
from mdebench.evaluation import readouts
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.passes import encode, frozen
from mdebench.methods.contract import Method
from mdebench.results.displays import CONTROLS

CPU = torch.device("cpu")


def make_pack(images, attributes, split):
    count = len(images)
    info = {"hash": "ab" * 32, "attribute_names": [f"a{i}" for i in range(attributes.shape[1])]}
    known = {"images": images, "attributes": attributes.astype(np.int8), "split": split.astype(np.uint8)}
    return Pack(Path("mock"), info, **{**unlabelled(count, images.shape[-1], attributes.shape[1]), **known})


class Network(Method):
    """A small encoder with everything that could move by accident: weights, batch-norm statistics, dropout."""

    def __init__(self):
        super().__init__(None, 8)
        self.feature_dim = 6
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 6)
        )
        self.calls = 0

    def encode(self, images):
        self.calls += 1
        return self.layers(images)


@pytest.fixture
def pack():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 3, 8, 8), dtype=np.uint8)
    bright = images.mean(axis=(1, 2, 3)) > 127
    attributes = np.stack([bright, rng.random(90) < 0.3], axis=1)
    return make_pack(images, attributes, np.repeat([0, 1, 2], 30))


@pytest.fixture
def subject(tmp_path):
    torch.manual_seed(0)
    return Subject("mock-run", Network().eval(), tmp_path, 3, "cd" * 32)


def task_of(pack):
    targets = pack.attributes.astype(np.float32)
    rows = readouts.partition(pack, np.ones(len(targets), bool))
    return readouts.Task(targets, rows, pack.indices("test"), lambda p, t: float(((p > 0.5) != t).mean()))


# --- ridge


def problem():
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(200, 7)) * [1, 5, 0.01, 1, 1, 1, 1] + [0, 3, 40, 0, 0, 0, 0]).astype(np.float32)
    x[:, 4] = 2.5  # never varies
    y = (x @ rng.normal(size=(7, 3)) + rng.normal(size=(200, 3))).astype(np.float32)
    return x, y


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 10.0])
def test_ridge_is_scikit_learns_on_standardised_features(alpha):
    x, y = problem()
    scaler = StandardScaler().fit(x.astype(np.float64))
    reference = Ridge(alpha=alpha * len(x)).fit(scaler.transform(x.astype(np.float64)), y)
    (ours,) = readouts.ridge(x, y, [alpha], CPU)
    np.testing.assert_allclose(ours(x), reference.predict(scaler.transform(x.astype(np.float64))), atol=1e-4)
    assert (ours.weight[4] == 0).all()


def test_unknown_targets_are_as_if_their_images_were_not_there():
    x, y = problem()
    holes = y.copy()
    holes[:60, 1] = np.nan
    (whole,) = readouts.ridge(x, y, [0.1], CPU)
    (part,) = readouts.ridge(x[60:], y[60:], [0.1], CPU)
    (ours,) = readouts.ridge(x, holes, [0.1], CPU)
    np.testing.assert_allclose(ours(x)[:, [0, 2]], whole(x)[:, [0, 2]], rtol=1e-6)
    np.testing.assert_allclose(ours(x)[:, 1], part(x)[:, 1], rtol=1e-6)


def test_a_constant_feature_predicts_the_mean():
    _, y = problem()
    for ours in readouts.ridge(np.ones((200, 1), np.float32), y, readouts.ALPHAS, CPU):
        np.testing.assert_allclose(
            ours(np.ones((5, 1), np.float32)), np.tile(y.astype(float).mean(0), (5, 1)), rtol=1e-6
        )


def test_more_features_than_images_still_have_a_solution():
    x = np.random.default_rng(0).normal(size=(10, 50)).astype(np.float32)
    weak, strong = readouts.ridge(x, x[:, :1], [1e-6, 10.0], CPU)
    np.testing.assert_allclose(weak(x), x[:, :1], atol=1e-3)
    assert np.abs(strong.weight).sum() < np.abs(weak.weight).sum()


# --- partitions


def test_validation_is_used_where_there_is_one(pack):
    usable = np.ones(90, bool)
    usable[[0, 31]] = False
    rows = readouts.partition(pack, usable)
    assert rows.train.tolist() == list(range(1, 30))
    assert rows.val.tolist() == [30, *range(32, 60)]
    assert rows.note == ""


def test_without_validation_a_tenth_of_train_is_held_out_and_said(pack):
    rows = readouts.partition(pack, pack.split != 1)
    assert rows.val.tolist() == [0, 10, 20]
    assert sorted([*rows.train, *rows.val]) == list(range(30))
    assert "alpha chosen on 3 held-out training images" in rows.note


def test_nothing_to_train_on_is_refused(pack):
    with pytest.raises(UserError, match="too few training images with known targets: 1"):
        readouts.partition(pack, np.arange(90) == 5)


# --- the head


def test_the_first_update_is_adams_on_the_summed_squared_error():
    rng = np.random.default_rng(0)
    codes, targets = (torch.tensor(rng.random(shape), dtype=torch.float32) for shape in ((4, 3), (4, 2)))
    targets[1, 0] = torch.nan
    start, one = (
        readouts.train_head(
            lambda rows: codes[rows], 3, targets, readouts.Settings(updates=1, batch_size=4, learning_rate=rate), 0
        )
        for rate in (1e-12, 1e-3)
    )
    weight, bias = (p.detach().requires_grad_() for p in start.parameters())
    error = torch.sigmoid(codes @ weight.T + bias) - targets
    (error[~targets.isnan()].square().sum() / 4).backward()
    for before, after in zip((weight, bias), one.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), before.detach() - 1e-3 * before.grad.sign(), rtol=0, atol=1e-6)


def test_a_head_depends_on_its_seed_alone_and_leaves_the_random_state():
    codes, targets = torch.rand(50, 4), torch.rand(50, 2)
    settings = readouts.Settings(updates=20)
    state = torch.get_rng_state()
    heads = [readouts.train_head(lambda rows: codes[rows], 4, targets, settings, seed)[0].weight for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_learns_what_is_plainly_there():
    truth = (torch.arange(64) % 2).float()[:, None]
    settings = readouts.Settings(updates=300, learning_rate=0.05)
    head = readouts.train_head(lambda rows: truth[rows], 1, truth, settings, 0)
    assert ((head(truth) > 0.5) == (truth > 0.5)).all()


@pytest.mark.parametrize("values", [{"setting": "thawed"}, {"updates": 0}, {"learning_rate": -1.0}])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(UserError):
        readouts.Settings(**values)


# --- the subject


def snapshot(method):
    return {name: tensor.clone() for name, tensor in method.state_dict().items()}


@pytest.mark.parametrize("setting", ["frozen", "finetune"])
def test_the_subject_is_bit_identical_after_a_transfer(pack, subject, setting):
    before, modes = snapshot(subject.method), [m.training for m in subject.method.modules()]
    readouts.readouts(subject, pack, task_of(pack), readouts.Settings(setting=setting, updates=5))
    after = subject.method.state_dict()
    assert any("running_mean" in name for name in after)
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert [m.training for m in subject.method.modules()] == modes
    assert all(p.grad is None for p in subject.method.parameters())


def test_frozen_means_eval_mode_and_gives_every_mode_back(subject):
    subject.method.layers[1].train()
    with frozen(subject.method) as method:
        assert not any(m.training for m in method.modules())
        assert not torch.is_grad_enabled()
    assert subject.method.layers[1].training
    assert not subject.method.training


def test_features_are_the_encoders_own_and_computed_once(pack, subject):
    rows = np.array([70, 3, 3])
    found = subject.features(pack, rows)
    with torch.no_grad():
        expected = subject.method.encode(torch.from_numpy(pack.images[rows]).float() / 255)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    calls = subject.method.calls
    np.testing.assert_array_equal(subject.features(pack, rows), found)
    assert subject.method.calls == calls


def test_features_of_other_weights_or_in_a_damaged_file_are_computed_anew(pack, subject):
    rows = np.arange(90)
    before = subject.features(pack, rows)
    (file,) = (subject.folder / "features").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(subject.features(pack, rows), before)
    subject.weights_hash = "ef" * 32
    nn.init.ones_(subject.method.layers[-1].weight)
    assert not np.array_equal(subject.features(pack, rows), before)
    assert len(list((subject.folder / "features").iterdir())) == 1  # the stale file is gone, no scratch is left


def test_a_file_with_more_numbers_than_its_header_says_is_not_read_shifted(pack, subject):
    """As one that was written under a width that was declared, and held more."""
    subject.features(pack, np.arange(3))
    (file,) = (subject.folder / "features").iterdir()
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (90, 6)})
        stream.write(np.full((90, 9), 7, np.float32).tobytes())
    assert (np.load(file, mmap_mode="r")[:3] == 7).all()  # numpy does not mind
    with torch.no_grad():
        expected = subject.method.encode(torch.from_numpy(pack.images[:3]).float() / 255)
    np.testing.assert_allclose(subject.features(pack, np.arange(3)), expected, rtol=1e-5, atol=1e-6)


def test_a_width_is_measured_and_a_promise_of_another_is_refused(pack, subject):
    assert subject.width == 6
    other = Subject("liar", subject.method, subject.folder, 0, "cd" * 32)
    other.features(pack, np.arange(3))
    subject.method.feature_dim = 3
    liar = Subject("liar", subject.method, subject.folder, 0, "cd" * 32)
    (file,) = (subject.folder / "features").iterdir()
    np.save(file, np.zeros((90, 3), np.float32))  # of the promised width: it is not asked
    for ask in (lambda: liar.width, lambda: liar.features(pack, np.arange(3))):
        with pytest.raises(UserError, match=r"promises \(N, feature_dim\) = \(2, 3\) and gives \(2, 6\)"):
            ask()
    assert Subject("blind", Method(None, 8), subject.folder, 0, "ef" * 32).width == 0


def test_numbers_that_are_not_finite_are_refused_and_not_kept(pack, subject):
    nn.init.constant_(subject.method.layers[-1].bias, torch.inf)
    with pytest.raises(UserError, match="not finite"):
        subject.features(pack, np.arange(3))
    assert not list((subject.folder / "features").iterdir())


def test_a_method_without_encoder_or_decoder_is_named(subject):
    with pytest.raises(UserError, match="has no encoder"):
        encode(Method(None, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(UserError, match=r"mock-run cannot complete images \(it has no decoder\), choose another run"):
        subject.complete(torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8))


# --- readouts


def test_frozen_gives_head_and_probe_and_finetune_its_head(pack, subject):
    frozen_readouts = readouts.readouts(subject, pack, task_of(pack), readouts.Settings(updates=4))
    assert [r.setting for r in frozen_readouts] == ["frozen-head-4", "frozen-probe", *CONTROLS]
    assert "alpha" in frozen_readouts[1].note
    (finetuned,) = readouts.readouts(subject, pack, task_of(pack), readouts.Settings("finetune", updates=4))
    assert finetuned.setting == "finetune-head-4"
    assert finetuned.predictions.shape == (30, 2)


def test_finetuning_reaches_the_encoder(pack, tmp_path):
    class Scaled(Method):
        """A feature that says nothing until its weight has moved."""

        feature_dim = 1

        def __init__(self):
            super().__init__(None, 8)
            self.weight = nn.Parameter(torch.zeros(1))

        def encode(self, images):
            return self.weight * 100 * (images.mean(dim=(1, 2, 3)) - 0.5)[:, None]

    subject = Subject("scaled", Scaled(), tmp_path, 0, "0" * 64)
    settings = readouts.Settings("finetune", updates=200, learning_rate=0.02)
    (readout,) = readouts.readouts(subject, pack, task_of(pack), settings)
    truth = pack.attributes[pack.indices("test"), 0]
    assert ((readout.predictions[:, 0] > 0.5) == truth).mean() > 0.9
    assert subject.method.weight.item() == 0


class Frozen(Network):
    """As whoever loads an encoder for measuring leaves it."""

    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Half(Network):
    def __init__(self):
        super().__init__()
        self.layers[0].requires_grad_(False)


@pytest.mark.parametrize(("network", "note"), [(Network, ""), (Half, "2 tensors"), (Frozen, "6 tensors")])
def test_finetuning_moves_every_parameter_frozen_or_not_and_says_so(pack, tmp_path, network, note):
    subject = Subject("net", network().eval(), tmp_path, 0, "0" * 64)
    flags, before = [p.requires_grad for p in subject.method.parameters()], snapshot(subject.method)
    assert tensors_moved(subject, pack) == [6, 6]
    assert [p.requires_grad for p in subject.method.parameters()] == flags
    assert all(torch.equal(before[name], after) for name, after in subject.method.state_dict().items())
    (readout,) = readouts.readouts(subject, pack, task_of(pack), readouts.Settings("finetune", updates=1))
    assert readout.note == (f"{note} of parameters that came frozen are trained along" if note else "")


class Detached(Network):
    def encode(self, images):
        return super().encode(images).detach()


class Buffers(Method):
    """Nothing in it is a parameter."""

    feature_dim = 3

    def __init__(self):
        super().__init__(None, 8)
        self.register_buffer("shift", torch.zeros(3))

    def encode(self, images):
        return images.mean(dim=(2, 3)) + self.shift


@pytest.mark.parametrize("network", [Detached, Buffers])
def test_where_nothing_can_be_tuned_there_is_no_row_called_finetune(pack, tmp_path, network):
    subject = Subject("net", network().eval(), tmp_path, 0, "0" * 64)
    with pytest.raises(UserError, match="net has nothing to finetune: its code depends on no parameter"):
        readouts.readouts(subject, pack, task_of(pack), readouts.Settings("finetune", updates=1))


def test_the_same_transfer_twice_gives_the_same_bits(pack, subject):
    for setting in ("frozen", "finetune"):
        settings = readouts.Settings(setting, updates=6)
        first, second = (readouts.readouts(subject, pack, task_of(pack), settings) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a.predictions, b.predictions)


def test_a_diverged_head_is_an_error(pack, subject):
    settings = readouts.Settings("finetune", updates=20, learning_rate=float("inf"))  # no machine survives that
    with pytest.raises(UserError, match="diverged"):
        readouts.readouts(subject, pack, task_of(pack), settings)


def test_the_probe_is_a_unit_of_its_own():
    """However the head is trained, the probe is the same unit, so it is computed once and nothing is superseded."""
    short, long = readouts.Settings(updates=5), readouts.Settings(updates=50)
    (head, *probes), (other_head, *others) = readouts.cases(short), readouts.cases(long)
    assert head != other_head and probes == others
    assert readouts.cases(readouts.Settings(setting="finetune")) == [readouts.Settings(setting="finetune")]


# --- few labels


def test_few_are_drawn_from_the_rows_alike_for_all_and_a_larger_share_holds_the_smaller():
    rows = np.arange(1000, 1500)
    few, more, other = (readouts.draw_few(rows, *what) for what in ((0.01, 0), (0.1, 0), (0.1, 1)))
    assert (len(few), len(more), len(other)) == (5, 50, 50)
    assert set(few) < set(more) < set(rows)
    assert list(more) == sorted(set(more)) and set(more) != set(other)
    np.testing.assert_array_equal(more, readouts.draw_few(rows, 0.1, 0))
    assert len(readouts.draw_few(rows[:7], 0.01, 0)) == 1


def test_few_of_many_classes_hold_one_of_each():
    rows, strata = np.arange(200), np.arange(200) // 8
    few = readouts.draw_few(rows, 0.01, 3, strata)
    assert sorted(strata[few]) == list(range(25))
    assert len(readouts.draw_few(rows, 0.5, 3, strata)) == 100


def test_few_labels_are_the_probe_on_those_images_alone(pack, subject):
    task = task_of(pack)
    settings = readouts.Settings("few-labels")
    assert [case.setting for case in readouts.cases(settings)] == ["frozen-probe-1%", "frozen-probe-10%"]
    one, ten = readouts.readouts(subject, pack, task, settings)
    assert ten.predictions.shape == (readouts.DRAWS, 30, 2)
    assert "labels of 3 of 30 training images" in ten.note and "on 3 of 30 others; mean over 5 draws" in ten.note
    assert "labels of 1 of 30 training images" in one.note
    drawn = readouts.Partition(*(readouts.draw_few(pack.indices(split), 0.1, 2) for split in ("train", "val")))
    few = replace(task, partition=drawn)
    (readout,) = readouts.readouts(subject, pack, few, readouts.Settings("frozen-probe"))
    np.testing.assert_array_equal(ten.predictions[2], readout.predictions)
    (again,) = readouts.readouts(subject, pack, task, readouts.Settings("frozen-probe-10%"))
    np.testing.assert_array_equal(again.predictions, ten.predictions)


def test_settings_of_stored_rows_have_the_fields_they_had():
    """A field more would give every stored row another key."""
    known = ["setting", "updates", "batch_size", "learning_rate", "beta1", "annealing_power"]
    assert [field.name for field in fields(readouts.Settings)] == known


def test_a_column_that_none_of_the_few_knows_is_predicted_as_absent():
    x, y = problem()
    y[:, 1] = np.nan
    (ours,) = readouts.ridge(x, y, [0.1], CPU)
    assert (ours(x)[:, 1] == 0).all() and np.abs(ours(x)[:, 0]).max() > 0


def test_a_batch_of_one_that_batch_norm_cannot_take_is_refused_before_finetuning(pack, tmp_path):
    class Normed(Network):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(self.feature_dim)

        def encode(self, images):
            return self.norm(super().encode(images))

    subject = Subject("net", Normed(), tmp_path, 0, "cd" * 32)
    before = {name: value.clone() for name, value in subject.method.state_dict().items()}
    settings = readouts.Settings("finetune", updates=2, batch_size=1)
    with pytest.raises(UserError, match=r"net cannot be finetuned in batches of 1: .* give --set batch_size=2 or more"):
        readouts.readouts(subject, pack, task_of(pack), settings)
    assert all(torch.equal(before[name], value) for name, value in subject.method.state_dict().items())
    assert readouts.readouts(subject, pack, task_of(pack), replace(settings, batch_size=2))
