"""Words on the terminal: names of others are read there, and do nothing."""

import io

import click
import pytest
from rich.text import Text

from mdebench import words
from mdebench.cli import main as entry
from mdebench.errors import UserError

NASTY = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb\ud800"


def test_what_acts_is_spelled_out():
    assert words.shown("a\x1b[31m\u202e\x9f\n", "\n") == "a\\x1b[31m\\u202e\\x9f\n"
    assert words.shown("a\nb\tc") == "a\\x0ab\\x09c"
    assert words.shown("Größe 64×64 · Ωμέγα 名前 👩‍👩") == "Größe 64×64 · Ωμέγα 名前 👩‍👩"


def test_no_escape_sequence_reaches_the_terminal():
    console = words.new_console()
    console.file = io.StringIO()
    console.print(f"of {NASTY}\nnext")
    words.tell(console, "note", NASTY)
    said = console.file.getvalue()
    assert said.count("\\x1b]0;title\\x07") == 2 and "\nnext" in said
    assert not set(said) & set("\x1b\x07\x9b\u202e\ud800")
    assert Text(said).plain == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError(f"one\ntwo {NASTY}"), "Error: one\\x0atwo a\\x1b]0;title"),
        (OSError(28, "No space left on device"), "Error: No space left on device; choose"),
        (OSError(28, "No space left on device", "/a\x1bb"), "Error: /a\\x1bb: No space left on device; choose"),
    ],
)
def test_an_error_is_one_line_of_plain_signs(error, said, monkeypatch, capsys):
    @click.command()
    def fails():
        raise error

    monkeypatch.setattr(entry, "cli", fails)
    monkeypatch.setattr("sys.argv", ["mdebench"])
    with pytest.raises(SystemExit) as end:
        entry.main()
    told = capsys.readouterr().err
    assert end.value.code == 1 and told.startswith(said) and told.count("\n") == 1 and "\x1b" not in told
