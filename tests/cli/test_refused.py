"""What the system refuses (room, memory, descriptors, a sign of the terminal) is one sentence, and never "None"."""

import errno
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mdebench.cli import main
from mdebench.data.pack import open_pack
from mdebench.errors import UserError
from mdebench.methods.perceptual import load_perceptual
from mdebench.training.recipes import make_recipe, train_run


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; choose another --home or make"),
        (OSError(errno.EMFILE, "Too many open files", "a.npy"), "a.npy: Too many open files; permit more (ulimit -n"),
        (OSError(errno.EIO, "Input/output error", "a"), "a: Input/output error; see to the disk"),
        (
            OSError(errno.ELOOP, "Too many levels of symbolic links", "a"),
            "a: Too many levels of symbolic links; choose",
        ),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "Resource temporarily unavailable; end"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory for this ("),
        (MemoryError(), "there is not enough memory for this (MemoryError); end something, or give less"),
        (MemoryError("Unable to allocate 9 GiB"), "enough memory for this (Unable to allocate 9 GiB); end something"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "(libtorch.so: failed to map segment"),
        (ImportError("libtorch.so: cannot open: Too many open files"), "Too many open files; permit more (ulimit -n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nmore"), "memory: you tried); end"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(monkeypatch, capsys, error, sentence):
    def refuse(**options):
        raise error

    monkeypatch.setattr(main.cli, "main", refuse)
    with pytest.raises(SystemExit) as end:
        main.main()
    said = capsys.readouterr().err
    assert end.value.code == 1 and sentence in said and said.startswith("Error: ") and said.count("\n") == 1
    assert "None" not in said


def test_a_defect_of_ours_shows_itself(monkeypatch):
    def fail(**options):
        raise KeyError("step")

    monkeypatch.setattr(main.cli, "main", fail)
    with pytest.raises(KeyError):
        main.main()


def run(home, *words, before="", **environment):
    command = f"{before}exec {sys.executable} -m mdebench {' '.join(words)} --home {home}"
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env, check=False)


@pytest.fixture
def trained(home, console):
    pack = open_pack(home.packs / "toyfaces16")
    train_run(home, make_recipe("random", pack, "tiny", 0, {}), pack, console)
    return home


def test_a_terminal_without_our_signs_shows_a_mark_in_their_place(trained):
    done = run(trained, "runs", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and not done.stderr and "random" in done.stdout and "?" in done.stdout  # for –


def test_few_descriptors_are_enough(trained):
    done = run(trained, "doctor", before="ulimit -n 64; ")
    assert done.returncode == 0 and "open files: 64 at most" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("reproduce", "table1", "--seeds", "0,٣"), "--seeds 0,٣: expected whole numbers"),
        (("reproduce", "table1", "--seeds", "-1"), "--seeds -1: expected whole numbers"),
        (("reproduce", "table1", "--seeds", str(2**64)), "expected whole numbers with commas"),
    ],
)
def test_digits_of_other_scripts_and_numbers_out_of_range_are_refused(tmp_path, words, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        CliRunner().invoke(main.cli, [*words, "--home", str(tmp_path)], catch_exceptions=False)
    assert not (tmp_path / "runs").exists()


def test_the_seed_of_a_random_network_is_in_ascii():
    with pytest.raises(UserError, match="the seed after 'random:' must be a whole number"):
        load_perceptual("random:٣")
