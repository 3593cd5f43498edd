"""One run in two CPU processes: the numbers of one, whoever moves; what a kill, Ctrl-C or a wrong number do to it."""

import json
import shutil
from functools import partial

import pytest
import torch
from sharing import NAMES, RUN, after_updates, compare, recipe_of, run, run_killed, run_stopped
from torch.nn import functional as F

from mdebench.cli.main import cli
from mdebench.compute import batchnorm, devices
from mdebench.compute.launch import launch
from mdebench.errors import Interrupted, UserError
from mdebench.home import Home
from mdebench.training import recipes

EXACT = {"rtol": 0, "atol": 1e-9}  # float64: what the order of additions does, and nothing else


def only_run(home):
    (found,) = home.list_runs()
    return found


def home_in(tmp_path_factory, faces):
    home = Home(tmp_path_factory.mktemp("home"))
    (home.packs).symlink_to(faces.packs)
    return home


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, faces):
    """The home of an unbroken run of two processes, with what else `compare` did in them."""
    home = home_in(tmp_path_factory, faces)
    launch(2, compare, home, home)
    return home


@pytest.fixture(scope="module")
def together(unbroken):
    return torch.load(unbroken.folder / "compared.pt")


@pytest.fixture(scope="module")
def killed(tmp_path_factory, faces):
    """The home of a run of two processes, one of which was killed before update 7."""
    home = home_in(tmp_path_factory, faces)
    with pytest.raises(UserError, match=r"one of the processes of this run has ended; the last good state is in"):
        launch(2, run_killed, home, 7)
    return home


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_take_the_steps_of_one(together, name):
    ours, alone = together["found"][name], after_updates(name)
    assert ours["state"].keys() == alone["state"].keys()
    for key, value in alone["state"].items():
        torch.testing.assert_close(ours["state"][key], value, **EXACT)
    for key, value in alone["parts"].items():
        torch.testing.assert_close(ours["parts"][key], value, **EXACT)
    assert ours["gflop"] == pytest.approx(alone["gflop"])


@pytest.mark.parametrize("name", [*NAMES, "local"])
def test_both_end_with_the_same_weights_and_statistics(together, name):
    first, second = (told[name] for told in together["told"])
    assert first == second


def test_local_batch_norm_is_another_method_and_with_one_process_the_same(together):
    ours, whole, alone = together["found"]["local"]["state"], together["found"]["rec"], after_updates("rec")
    assert max((ours[key] - value).abs().max() for key, value in whole["state"].items()) > 1e-4
    assert after_updates("rec", batch_norm="local")["hash"] == alone["hash"]


def test_what_stops_one_stops_both_in_the_same_words(together):
    first, second = (told["stopped"] for told in together["told"])
    assert first == second and first[0].startswith("the loss of the critic is not finite at step 0")
    assert first[1] == "the disk is full" and "do not have the same pack" in first[2]


def test_nothing_listens_to_other_machines(together):
    addresses = [address for told in together["told"] for address in told["listening"]]
    assert addresses and all(address in ("127.0.0.1", "::1") for address in addresses)


def stretches(run):
    """From which update on how many processes trained it."""
    return [(stretch["from"], stretch["processes"]) for stretch in run.info["stretches"]]


def test_a_run_in_two_processes_records_them_and_logs_the_means_of_the_whole_batch(unbroken, home):
    run(home)
    ours, alone = only_run(unbroken), only_run(home)
    assert ours.folder.name == alone.folder.name and ours.info["recipe"] == alone.info["recipe"]
    assert ours.info["device"].startswith("2 × cpu") and ours.info["batch_norm"] == "synchronised"
    assert stretches(ours) == [(0, 2)]
    assert ours.info["gflop"] == pytest.approx(alone.info["gflop"])
    for a, b in zip(ours.log(), alone.log()):
        assert a | {"images_per_second": 0} == pytest.approx(b | {"images_per_second": 0}, abs=2e-6)
    assert len(list((ours.folder / "samples").iterdir())) == 5


def test_killed_stopped_and_resumed_it_ends_in_the_same_bits(unbroken, killed, tmp_path):
    shutil.copytree(killed, tmp_path, symlinks=True, dirs_exist_ok=True)
    assert only_run(Home(tmp_path)).load_state()["step"] == 7
    with pytest.raises(Interrupted, match="SIGINT at update 21 of 40"):
        launch(2, run_stopped, Home(tmp_path), 20)
    stopped = only_run(Home(tmp_path))
    assert stopped.info["status"] == "interrupted" and stopped.load_state()["step"] == 21
    words = [f"--set={key}={value}" for key, value in RUN.items()]
    where = ["--scale", "tiny", "--pack", "toyfaces16", "--home", str(tmp_path)]
    cli.main(["pretrain", "rec", *words, *where, "--devices", "2"], standalone_mode=False)
    resumed = only_run(Home(tmp_path))
    assert resumed.finished and resumed.info["weights_hash"] == only_run(unbroken).info["weights_hash"]
    assert stretches(resumed) == [(0, 2)]


def test_another_number_of_processes_says_so_and_goes_on(unbroken, killed, tmp_path, console):
    shutil.copytree(killed, tmp_path, symlinks=True, dirs_exist_ok=True)
    run(Home(tmp_path), console)
    assert "processes from update 7 on: 1, before: 2" in console.file.getvalue()
    resumed = only_run(Home(tmp_path))
    assert stretches(resumed) == [(0, 2), (7, 1)]
    whole = only_run(unbroken).load_state()["method"]
    for key, value in resumed.load_state()["method"].items():
        torch.testing.assert_close(value, whole[key], **EXACT)


def test_a_batch_that_cannot_be_shared_out_evenly(home, pack):
    words = ["pretrain", "rec", "--set", "batch=6", "--scale", "tiny", "--pack", "toyfaces16", "--home", str(home)]
    with pytest.raises(UserError, match="batch of 6 images cannot be divided evenly among 4 processes"):
        cli.main([*words, "--devices", "4"], standalone_mode=False)
    assert not (home.runs).exists()


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 devices were asked for, but this machine has 1 GPU"):
        launch(2, print)


def test_a_recipe_keeps_its_name_unless_batch_norm_is_chosen(pack):
    assert "batch_norm" not in json.dumps(recipe_of(pack).__dict__)
    chosen = recipes.make_recipe("rec", pack, "tiny", 0, {"batch_norm": "local"})
    assert chosen.batch_norm == "local" and "batch_norm=local" in chosen.name
    with pytest.raises(UserError, match="batch_norm 'nearby'"):
        recipes.make_recipe("rec", pack, "tiny", 0, {"batch_norm": "nearby"})


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 2)])
def test_batch_norm_has_the_derivatives_of_its_definition(shape):
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(n, dtype=torch.float64, requires_grad=True) for n in (shape, 3, 3))
    ours = partial(batchnorm._batch_norm, training=True)
    assert torch.autograd.gradcheck(lambda *p: ours(p[0], None, None, *p[1:]), (x, weight, bias))
    assert torch.autograd.gradgradcheck(lambda *p: ours(p[0], None, None, *p[1:]), (x, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_of_one_process_is_torch_s(dtype, affine):
    torch.manual_seed(0)
    x, slope = torch.randn(2, 8, 6, 5, 5).to(dtype)
    weight, bias = torch.rand(2, 6) if affine else (None, None)
    results = []
    for norm in (batchnorm._batch_norm, F.batch_norm):
        images, mean, var = x.clone().requires_grad_(), torch.zeros(6), torch.ones(6)
        output = norm(images, mean, var, weight, bias, True, 0.1, 1e-5)
        output.backward(slope)
        assert output.dtype == images.grad.dtype == dtype
        results.append((output, images.grad, mean, var))
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_alone_means_are_what_they_are_given():
    x = torch.ones(3)
    assert devices.mean(x) is x and devices.anywhere(True, False) == [True, False]
