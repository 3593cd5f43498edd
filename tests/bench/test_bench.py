"""What the benches report adds up; how fast anything is belongs to the machine and is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mdebench.bench import floor
from mdebench.bench.clock import Measured, alternate, over_rounds
from mdebench.bench.data import decode_alone, generated_archive, measure_data
from mdebench.bench.metrics import measure_metrics
from mdebench.bench.noise import generated_pack
from mdebench.bench.peak import measure_peak, peak_jobs
from mdebench.bench.plain import Plain, plain_elsewhere
from mdebench.bench.record import Record, save, short_table, speed_rows, speed_table
from mdebench.bench.sections import sections
from mdebench.bench.step import bench_step, measure_step, step_case
from mdebench.bench.transfer import measure_transfer
from mdebench.cli.main import cli
from mdebench.data import workers
from mdebench.data.decode import centre_square
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.training.trainer import Trainer, batch_at, build_method

ROOT = Path(__file__).parents[2]


def by_metric(measured):
    return {m.metric: m for m in measured}


def step(method, overrides, batch=2):
    return by_metric(measure_step(step_case(method, "tiny", overrides, 32, batch, images=10), 3))


# --- the clock


def test_jobs_are_timed_in_turn_and_the_warm_up_does_not_count():
    order = []
    times = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=2)
    assert order == ["a", "b"] * 5 and all(len(t) == 3 and (t > 0).all() for t in times.values())


def test_rounds_are_told_by_their_median_and_quartiles():
    assert over_rounds("x", "s", [5.0, 1.0, 2.0, 4.0, 3.0]) == Measured("x", "s", 3.0, 2.0, 4.0, 5)


PEAK = """
import torch
from mdebench.bench.clock import peak_memory
base = peak_memory(lambda: None)
grown = peak_memory(lambda: torch.ones(200 * 2**20, dtype=torch.uint8).max())
print(grown - base)
"""


def test_the_peak_of_memory_holds_what_was_in_use_and_given_back():
    """In a process of its own: this one keeps what it freed once it has trained."""
    said = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout
    assert 0.9 * 200 * 2**20 < int(said) < 1.5 * 200 * 2**20


# --- one update


def test_an_update_of_any_method_is_timed_and_counted():
    small, twice = step("glcic", {"width": "4"}), step("glcic", {"width": "4"}, batch=4)
    plain, ours, ratio = (small[name] for name in ("plain (fp32, contiguous)", "ours", "times as fast"))
    assert ratio.low <= ratio.value <= ratio.high and plain.value > 0
    assert small["images"].value == pytest.approx(2 / ours.value * 1000)
    # Twice the images, twice the operations, but for gradients of weights and windows: those grow alike here.
    gflop = "operations of an update"
    assert twice[gflop].value == pytest.approx(2 * small[gflop].value, rel=0.02)
    share, peak = small["of the peak of conv bf16"], small["peak of conv bf16"]
    assert share.value / 100 * peak.value == pytest.approx(small[gflop].value / ours.value * 1000, rel=0.02)


def test_the_plain_update_is_given_contiguous_images():
    recipe = step_case("rec", "tiny", {"width": "2", "code": "4", "losses": "compl"}, 32, 2, 10).recipe
    plain, met = Plain(build_method(recipe.method, recipe.settings, 32, 0), torch.device("cpu")), []
    plain.method.generator.register_forward_pre_hook(lambda module, inputs: met.append(inputs[0].is_contiguous()))
    with generated_pack(10, 32) as pack:
        plain.update(batch_at(pack, pack.indices("train"), recipe, 0, torch.device("cpu")))
    assert met == [True]


def test_a_precision_that_does_not_exist_is_told():
    with pytest.raises(UserError, match="precision=half is none of"):
        step_case("rec", "tiny", {"precision": "half"})


def test_all_players_of_a_game_in_phases_are_timed():
    joint, alone = step("glcic", {"width": "4"}), step("glcic", {"width": "4", "phases": "1,0,0"})
    # the generator alone, against it and both discriminators
    assert joint["operations of an update"].value > 1.3 * alone["operations of an update"].value
    assert "discriminator, forward" in joint and "discriminator, forward" not in alone


def test_a_method_without_training_has_no_step():
    with pytest.raises(UserError, match="pixels has nothing to train"):
        measure_step(step_case("pixels", "tiny", {}), 3)


def test_the_sections_of_an_update_add_up_and_name_every_network():
    case = step_case(
        "rec", "tiny", {"width": "4", "code": "8", "losses": "vgg+adv", "perceptual": "random:0"}, 32, 2, 10
    )
    recipe = case.recipe
    with generated_pack(10, 32) as pack:
        trainer = Trainer(build_method(recipe.method, recipe.settings, 32, 0), recipe, torch.device("cpu"))
        batch = batch_at(pack, pack.indices("train"), recipe, 0, trainer.device)
        trainer.update(batch)
        before = {name: hooks_of(module) for name, module in trainer.method.named_modules()}
        spent = sections(trainer, batch)
    networks = ("generator", "discriminator", "perceptual")
    assert {f"{n}, {way}" for n in networks for way in ("forward", "backward")} | {"optimizer"} < set(spent)
    assert all(seconds >= 0 for seconds in spent.values())
    assert before == {name: hooks_of(module) for name, module in trainer.method.named_modules()}


def hooks_of(module):
    return len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)


def test_backward_of_a_network_is_told_from_its_neighbours():
    """A network that is slow on purpose in one direction shows up in that direction."""
    case = step_case("rec", "tiny", {"width": "2", "code": "4", "losses": "compl+adv"}, 32, 2, 10)
    recipe = case.recipe
    trainer = Trainer(build_method(recipe.method, recipe.settings, 32, 0), recipe, torch.device("cpu"))
    with generated_pack(10, 32) as pack:
        batch = batch_at(pack, pack.indices("train"), recipe, 0, trainer.device)
        trainer.update(batch)
        trainer.method.generator.decoder.register_forward_hook(lambda m, i, o: Slow.apply(o))
        spent = sections(trainer, batch)
    assert max(spent, key=spent.get) == "generator, backward" and spent["generator, backward"] > 0.3


class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        import time

        time.sleep(0.3)
        return grad


# --- peaks, packs, metrics, readouts


def test_peaks_count_the_operations_of_the_work_that_is_timed():
    from torch.utils.flop_counter import FlopCounterMode

    jobs = peak_jobs(torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        jobs["conv fp32 12"][1]()
    assert counter.get_total_flops() == pytest.approx(jobs["conv fp32 12"][0] * 1e9)


def test_every_picture_of_an_archive_is_decoded(tmp_path, monkeypatch):
    archive = generated_archive(tmp_path / "pictures", 250)
    assert decode_alone(archive, centre_square, 16) == 250 == decode_alone(archive, centre_square, 16, in_threads=True)
    monkeypatch.setattr(workers, "MANY", 1)
    assert decode_alone(archive, centre_square, 16) == 250


def test_packing_is_measured_against_decoding():
    found = by_metric(measure_data(None, 16, 60, 3))
    share = found["packing, of what decoding alone allows"]
    assert 0 < share.low <= share.value <= share.high and found["peak memory of packing"].value > 10


def test_a_folder_of_celeba_is_no_archive(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "img_align_celeba" / "000001.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="decoding is timed on an archive"):
        measure_data(tmp_path, 16, 1, 3)


def test_the_metrics_equal_scikit_image_and_torchmetrics_is_timed():
    found = by_metric(measure_metrics(4, 24, 3))
    assert found["largest difference from scikit-image, pSNR"].value < 1e-4
    assert found["largest difference from scikit-image, SSIM"].value < 1e-4
    assert found["times as fast"].value > 0


def test_a_readout_on_kept_features_predicts_what_encoding_every_batch_does():
    found = by_metric(measure_transfer("mae", "tiny", 20, 100, 1))
    assert found["largest difference of a prediction in [0, 1]"].value < 1e-5
    with pytest.raises(UserError, match="biharmonic has no encoder"):
        measure_transfer("biharmonic", "tiny", 1, 100, 1)


# --- what is said and kept


def test_a_case_tells_its_mode_and_its_precision():
    with pytest.raises(UserError, match="there is no mode 'jit'"):
        step_case("rec", "tiny", {}, mode="jit")
    assert "compiled" in str(step_case("rec", "tiny", {"precision": "fp32"}, mode="compiled"))


def test_what_is_said_names_the_case_and_every_number(console):
    bench_step(step_case("rec", "tiny", {"width": "2", "code": "4"}, 16, 2, 10), 3, console)
    said = console.file.getvalue()
    assert "rec at scale tiny (16×16, batch 2" in said and "width=2" in said and "times as fast" in said


def test_rows_of_speed_are_kept_and_the_newest_is_shown(home):
    for value in (1.0, 2.5):
        save(home, Record("step", "a case", {"batch": 2}, [Measured("ours", "ms", value, value, value, 3)]))
    lines = (home.speed / "step.jsonl").read_text().splitlines()
    assert [json.loads(line)["value"] for line in lines] == [1.0, 2.5]
    assert {"git", "dirty", "packages", "machine", "time"} < set(json.loads(lines[0]))
    assert [row["value"] for row in speed_rows(home)] == [2.5]
    assert "2.5 ms" in speed_table(home) and "1 ms" not in speed_table(home)


def test_the_short_table_has_a_line_for_each_case_and_leaves_out_what_was_not_measured(home):
    ours, ratio = Measured("ours", "ms", 174, 170, 175, 5), Measured("times as fast", "×", 2.25, 2, 2.5, 5)
    save(
        home,
        Record("step", "rec at scale small", {}, [ours, ratio, Measured("peak memory", "MB", 1040, 1040, 1040, 1)]),
    )
    save(home, Record("step", "rec at scale paper", {}, [ours]))
    save(home, Record("peak", "peak", {}, [Measured("copy", "GB/s", 20, 20, 20, 1)]))
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in short_table(home).splitlines() if "rec" in line
    ]
    assert lines == [
        ["an update of rec at scale small", "174 ms (170 to 175)", "2.25 × (2 to 2.5) as fast as the plain one", ""],
        ["an update of rec at scale paper", "174 ms (170 to 175)", "", ""],
    ]
    assert "copy" not in short_table(home) and "1,040 MB" in speed_table(home)


def test_the_readme_s_table_of_speed_is_that_of_the_rows():
    assert short_table(Home(ROOT)) in (ROOT / "README.md").read_text()


def test_a_damaged_row_of_speed_is_a_sentence(home):
    path = save(home, Record("step", "a case", {}, [Measured("ours", "ms", 1, 1, 1, 3)]))
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(UserError, match=r"Line 2 of .*step\.jsonl is damaged"):
        speed_rows(home)


def test_the_command_keeps_its_numbers_where_it_is_told(home):
    command = ["bench", "metrics", "--count", "2", "--size", "16", "--rounds", "3", "--save", "--home", str(home)]
    answer = CliRunner().invoke(cli, command)
    assert answer.exit_code == 0 and "kept in" in answer.output
    assert {row["bench"] for row in speed_rows(home)} == {"metrics"}


def test_peaks_are_the_best_of_their_kind(monkeypatch):
    work = {
        "conv bf16 9": 4.0,
        "conv bf16 5": 1.0,
        "conv fp32 9": 2.0,
        "matmul bf16": 3.0,
        "matmul fp32": 1.0,
        "copy": 1.0,
    }
    monkeypatch.setattr("mdebench.bench.peak.peak_jobs", lambda device: {n: (g, lambda: None) for n, g in work.items()})
    monkeypatch.setattr(
        "mdebench.bench.peak.alternate", lambda jobs, rounds: {name: torch.ones(3).numpy() for name in jobs}
    )
    assert {m.metric: m.value for m in measure_peak(3)}["peak of conv bf16"] == 4.0


# --- the floor of an update, and the plain one's process


def test_kernels_are_counted_by_kind_and_timed_alone():
    x, w = torch.rand(4, 8, 16, 16), torch.rand(8, 8, 3, 3, requires_grad=True)

    def job(times):
        for _ in range(times):
            torch.conv2d(x, w).relu().sum().backward()

    with floor._Kernels() as once:
        job(1)
    with floor._Kernels() as thrice:
        job(3)
    new = {key for key in thrice.calls if key not in once.calls}  # the gradient of w is added to what is there
    assert all(thrice.calls[key] == 3 * calls for key, calls in once.calls.items())
    assert new == {key for key in thrice.calls if key[0] == "aten::add_.Tensor" or key[0] == "aten::add.Tensor"}
    kinds = {floor.kind_of(key[0]) for key in once.calls}
    assert {"convolutions", "activations and pooling", floor.OTHER} <= kinds and all(t > 0 for t in once.alone.values())


def test_a_kernel_that_is_slow_is_slow_in_its_kind():
    found = floor.kernel_times(lambda: torch.ones(1500, 1500) @ torch.ones(1500, 1500))
    assert max(found, key=found.get) == "matrix products" and found["convolutions"] == 0


def test_what_is_timed_alone_leaves_the_job_as_it_was():
    x = torch.arange(6.0)
    floor.kernel_times(lambda: x.add_(1))
    assert x.tolist() == [1, 2, 3, 4, 5, 6]


def test_a_kernel_s_arguments_are_laid_out_as_they_were():
    whole = torch.rand(4, 6, 5)
    for part in (whole[:, 2:4].transpose(1, 2), whole[:1].expand(4, 6, 5)):
        copy = floor._copy(part)
        assert copy.stride() == part.stride() and torch.equal(copy, part)
        assert copy.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()


def test_a_plain_update_that_ends_is_told(tmp_path, capfd):
    recipe = step_case("rec", "tiny", {"width": "2", "code": "4", "losses": "compl"}, 32, 2, 10).recipe
    broken = pytest.raises(UserError, match="plain update did not go through")
    with broken, plain_elsewhere(recipe, tmp_path) as update:  # no pack there
        update(range(1))
    assert "images.npy" in capfd.readouterr().err
