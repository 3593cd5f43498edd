"""Names of others in files of ours: what is read is what they say, by another library's reading of each format."""

import csv
import io

import pytest
from markdown_it import MarkdownIt

from mdebench.results.spelled import csv_cell, file_stem, markdown
from mdebench.words import shown

NAMES = [
    "<script>alert(1)</script>",
    "<b>bold</b> & <!-- gone -->",
    "a | b | c",
    "`code` ``more``",
    "*stars* **two** a*b 2 * 3",
    "_under_ __init__ context_encoder a_b_",
    "[link](javascript:alert(1)) ![picture](http://x/y.png)",
    "[a][b] [^1] [ ] [x]",
    "[x]: http://evil.example",
    "&lt; &#60; &copy; A&B",
    "~~struck~~ ~once~",
    "back\\*slash\\ \\| \\",
    "# heading",
    "> quoted",
    "- item",
    "1. first",
    "===",
    "\x1b[31mred\x1b[0m\x07",
    "\u202egnp.exe\u2066",
    "two\nlines\r\nand\ttabs\u2028more",
    "\ud800 half a character",
]


def read(text):
    """What Markdown shows of it, and what else it makes of it."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return "".join(child.content for child in inline), {child.type for child in inline} - {"text", "text_special"}


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_a_name_and_does_nothing_else(name):
    for begin, end in (("# ", ""), ("- ", ""), ("a: ", " and more"), ("**", "**")):
        said, made = read(f"{begin}{markdown(name)}{end}\n")
        assert shown(name).strip() in said and made <= {"strong_open", "strong_close"}
    said, made = read(f"| a | b |\n|---|---|\n| {markdown(name)} | 1 |\n")
    assert said == f"ab{shown(name).strip()}1" and not made


def test_markdown_shows_any_name(rng):
    signs = [*"ab 1<>/!?&;#|`*_[]()~\\^:\"'-+=.\n\x1b", "é", "\u202e"]
    for _ in range(400):
        name = "x" + "".join(rng.choice(signs, rng.integers(1, 12))) + "x"
        said, made = read(f"- {markdown(name)}\n")
        assert said.split() == shown(name).split() and not made, repr(name)


def test_what_we_say_ourselves_stands_as_it_is():
    for text in (
        "[low, high]: 95 % interval over test images. With several seeds: mean ± standard deviation over seeds.",
        "context_encoder (objective=joint), 2,000 updates",
        "1.40 [1.37, 1.43]",
        "2 < 3 & 4 > 1; ≈ (†)",
    ):
        assert markdown(text) == text


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1", "＝1"])
def test_a_cell_is_no_formula(text):
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(text), "b"])
    ((cell, _),) = csv.reader(io.StringIO(out.getvalue()))
    assert not cell.startswith(("=", "+", "-", "@", " ", "\t", "＝")) and shown(text) in cell


@pytest.mark.parametrize("text", ["-1.5", "+3", "1e-05", "-inf", "–", "−1", "rec 0.1", "", "a=b"])
def test_a_number_and_a_plain_name_are_no_formula(text):
    assert csv_cell(text) == text


def test_a_stem_stays_in_its_folder():
    assert file_stem("table1-50tflop-celeba64-small") == "table1-50tflop-celeba64-small"
    names = ["../../etc/x", "/abs", "a/b", "a_b", "a\x00b", "..", "a\nb"]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    assert not any("/" in stem or stem.startswith(".") or "\x00" in stem or "\n" in stem for stem in stems)
