"""One manner for every command: stopped with status 130, names as they are, narrow terminals, completion, near ones."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from mdebench.cli.main import cli
from mdebench.errors import UserError
from mdebench.evaluation.passes import chunks, steps, watched
from mdebench.home import Home
from mdebench.runs import Recipe
from mdebench.training.progress import progress_line
from mdebench.training.recipes import make_recipe, train_run
from mdebench.words import duration, new_console, size, tell

SMALL = {"width": "2", "code": "4", "updates": "2", "batch": "4"}
TINY = ["--scale", "tiny", "--pack", "toyfaces16", "--set", "width=2", "--set", "code=4"]
ONE = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(home, *words):
    command = [sys.executable, "-m", "mdebench", *words, "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ONE)


@pytest.fixture
def run(home, pack, console):
    return train_run(home, make_recipe("rec", pack, "tiny", 0, SMALL), pack, console)


@pytest.mark.parametrize(
    ("words", "begun"),
    [
        (["data", "prepare", "toyfaces", "--size", "64", "--count", "200000", "--name", "many"], "packs/.many*"),
        (["measure", "attributes", "--set", "updates=1000000"], "runs/*constant*/features"),
        (["pretrain", "rec", *TINY, "--updates", "100000"], "runs/*updates=100000*/log.jsonl"),
        (["reproduce", "table3", *TINY, "--set", "updates=100000"], "runs/*updates=100000*/log.jsonl"),
    ],
)
def test_ctrl_c_ends_with_status_130_and_without_a_traceback(home, run, words, begun):
    process = start(home, *words)
    for _ in range(600):
        if any(home.folder.glob(begun)):
            break
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said and re.search(r"stopped \(.*\); the same command goes on from there", said)


def test_brackets_in_a_folder_s_name_are_printed_as_they_are(faces, tmp_path):
    home = Home(tmp_path / "home [bold]1[red] :smile:")
    home.folder.mkdir()
    home.packs.symlink_to(faces.packs)
    said = ""
    for words in (
        ["pretrain", "rec", *TINY, "--updates", "2"],
        ["measure", "landmarks", "--set", "updates=5"],
        ["tables"],
        ["figures"],
        ["report"],
        ["prune", "--dry-run"],
    ):
        result = CliRunner().invoke(cli, [*words, "--home", str(home)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        said += result.output
    for path in (home.runs, home.rows / "landmarks", home.tables / "table1-toyfaces16-tiny.md", home.report):
        assert str(path) in said, path
    assert "\x1b" not in said


RECIPE = Recipe(
    "rec", "rec 0.1", {}, "paper", 96, "celeba96", "", 0, 300_000, 24, "fp32", {"a_long_setting": "0.123456"}
)
LOSSES = {f"generator/part_number_{i}": 123.456 for i in range(9)}


@pytest.mark.parametrize("width", [80, 60])
def test_a_narrow_terminal_keeps_step_time_left_and_speed_and_shortens_the_losses(width):
    import io

    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, markup=False, color_system=None, soft_wrap=True)
    with progress_line(console, RECIPE, 0, 300_000) as show:
        time.sleep(0.15)
        show(1000, LOSSES, 123.4)
        time.sleep(0.15)
        show(2000, LOSSES, 123.4)
        time.sleep(0.15)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()))
    shown = [line for line in lines if "2000/300000" in line]
    assert shown and all(len(line) <= width for line in lines if "/300000" in line)
    assert re.search(r"\d:\d\d:\d\d left 123 images/s", shown[-1])
    assert "part_number_0" in shown[-1] or width < 80
    assert "…" in shown[-1]  # the losses are what was cut
    assert RECIPE.name in "".join(lines)


def test_where_nobody_watches_there_are_lines(console):
    with progress_line(console, RECIPE, 0, 300_000) as show:
        show(300_000, {"generator/rec": 1.5}, 100.0)
    assert "300000/300000, 0 s left, 100 images/s, rec 1.5" in console.file.getvalue()


def test_who_watches_is_told_of_the_outermost_pass():
    import io

    import numpy as np

    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, markup=False, color_system=None)
    told = []
    with watched(console, "measuring [x]"):
        from mdebench.evaluation import passes

        passes._watching.append(lambda done, total: told.append((done, total)))
        for _ in steps(range(3), 3):
            assert [len(piece) for piece in chunks(np.arange(130))] == [64, 64, 2]
        passes._watching.pop()
    assert told == [(1, 3), (2, 3), (3, 3)] and "measuring [x]" in file.getvalue()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "rek"], "Did you mean 're"),
        (["show", "occlusio"], "Did you mean 'occlusion'"),
        (["export", "{run}x", "--to", "e.pt"], "Did you mean '{run}'"),
        (["export", "{run}", "--to", "e.tar"], "the ending says what is written"),
        (["embed", "{run}x", "."], "Did you mean '{run}'"),
        (["embed", "{run}", "nowhere"], "there is no folder nowhere"),
        (["embed", "nothing.safetensors", "."], "no such file: nothing.safetensors"),
        (["compare", "{run}", "{run}x"], "Did you mean '{run}'"),
        (["runs", "{run}x"], "Did you mean '{run}'"),
        (["runs", "--remove"], "name the runs to delete"),
        (["measure", "landmarks", "{run}x"], "Did you mean '{run}'"),
        (["measure", "landmarks", "--pack", "toyfaces"], "no pack at"),
        (["check", "./nothing.py"], "there is no file"),
        (["complete", "a.png", "--run", "{run}x", "--preset", "mouth"], "Did you mean '{run}'"),
        (["reproduce", "table1", "--method", "rek"], "Did you mean"),
    ],
)
def test_what_is_misspelt_is_answered_before_anything_is_loaded(home, run, words, message):
    name = run.folder.name
    typed = [word.format(run=name) for word in words] + (["--home", str(home)] if words[0] != "check" else [])
    with pytest.raises(UserError, match=re.escape(message.format(run=name))):
        CliRunner().invoke(cli, typed, catch_exceptions=False)
    code = (
        f"import sys, mdebench.cli.main as m\ntry: m.cli({typed!r})\nexcept Exception: sys.exit('torch' in sys.modules)"
    )
    if words[0] not in ("show", "check"):  # which load what they find
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pretr", {"pretrain"}),
        ("pretrain co", {"colorization1", "colorization2", "constant", "context_encoder"}),
        ("pretrain rec --sc", {"--scale"}),
        ("pretrain rec --scale ", {"paper", "medium", "small", "tiny"}),
        ("pretrain rec --pack toy", {"toyfaces16"}),
        ("measure ro", {"robustness"}),
        ("show toyfaces16-r", {"{run}"}),
        ("compare {run} toy", {"{run}"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_words_complete(home, run, shell, typed, expected):
    name = run.folder.name
    words = typed.format(run=name).split(" ")
    line = " ".join(["mdebench", *words])
    environment = {"_MDEBENCH_COMPLETE": f"{shell}_complete", "MDEBENCH_HOME": str(home)}
    environment |= {"COMP_WORDS": line, "COMP_CWORD": words[-1] if shell == "fish" else str(len(words))}
    found = CliRunner().invoke(cli, [], env=environment, prog_name="mdebench", complete_var="_MDEBENCH_COMPLETE").output
    if shell == "zsh":  # type, value, help
        values = set(found.splitlines()[1::3])
    else:
        values = {part.split(",", 1)[-1].partition("\t")[0] for part in found.split()}
    assert {each.format(run=name) for each in expected} <= values
    assert all(value.startswith(words[-1]) or shell == "fish" for value in values if value in expected)


def test_the_shells_scripts_can_be_had():
    for shell in ("bash", "zsh", "fish"):
        environment = {**os.environ, "_MDEBENCH_COMPLETE": f"{shell}_source"}
        command = [str(Path(sys.executable).with_name("mdebench"))]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert "_MDEBENCH_COMPLETE" in said or "mdebench" in said


def test_words_for_people():
    assert [duration(s) for s in (48, 185, 7800)] == ["48 s", "3 min 05 s", "2 h 10 min"]
    assert [size(n) for n in (512, 12_345, 3_400_000, 2.5e9, 4e12)] == [
        "512 B",
        "12 kB",
        "3.4 MB",
        "2.5 GB",
        "4000.0 GB",
    ]


def test_a_told_line_is_coloured_by_its_first_word_alone(capsys):
    tell(new_console(), "note", "a [bold]path[/] :smile:")
    assert capsys.readouterr().out == "note a [bold]path[/] :smile:\n"


def test_an_interrupt_in_a_terminal(faces, tmp_path):
    """As typed: the terminal sends Ctrl-C to the whole group, the workers of --jobs included."""
    (tmp_path / "packs").symlink_to(faces.packs)
    words = ["reproduce", "table1", *TINY, "--set", "updates=100000", "--jobs", "2", "--home", str(tmp_path)]
    child, terminal = pty.fork()
    if not child:
        os.execvpe(sys.executable, [sys.executable, "-m", "mdebench", *words], ONE)
    said, sent, until = b"", False, time.time() + 90
    while time.time() < until:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # the terminal is closed when all have gone
                break
        if not sent and any(tmp_path.glob("runs/*updates=100000*/log.jsonl")):
            os.write(terminal, b"\x03")
            sent = True
    else:
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130, said.decode()
    assert b"Traceback" not in said and b"the same command goes on from there" in said
