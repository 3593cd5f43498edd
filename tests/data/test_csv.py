"""Tables as Excel, pandas and editors write them: what they say is read, how they say it is told."""

import io

import numpy as np
import pandas as pd
import pytest

from mdebench.data.tables import decoded_text, is_unknown, number, read_table
from mdebench.errors import UserError

FRAME = pd.DataFrame({"path": ["a b.png", "c,d;e.png", "f.png"], "label": ["x", None, "é"], "n": [1.0, np.nan, 3.5]})
ROWS = [("a b.png", "x", "1.0"), ("c,d;e.png", "", ""), ("f.png", "é", "3.5")]


def read(data: bytes):
    return read_table(data, "my.csv", "path", ("path", "label"))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_pandas_writes_is_read(separator: str, encoding: str, end: str) -> None:
    table = read(FRAME.to_csv(sep=separator, index=False, lineterminator=end).encode(encoding))
    assert table.columns == ("path", "label", "n") and table.rows == ROWS and not table.longer
    assert any("separated by" in note for note in table.notes) is (separator != ",")
    assert any("UTF-" in note for note in table.notes) is encoding.startswith(("utf-16", "utf-32"))


def test_the_index_that_pandas_adds_is_told_and_not_used() -> None:
    table = read(FRAME.to_csv().encode())
    assert table.columns == ("path", "label", "n") and table.rows == ROWS
    assert table.notes == ["my.csv: columns without a name were not used (number 1)"]


def test_empty_rows_and_nameless_empty_columns() -> None:
    table = read(b"\r\nPath,LABEL,,\r\na.png,x,,\r\n,,,\r\n\r\nb.png,y,,\r\n,,,\r\n")
    assert table.columns == ("path", "label") and table.rows == [("a.png", "x"), ("b.png", "y")]
    assert table.notes == ["my.csv has 4 empty rows, left out"]


def test_excel_names_its_separator_in_the_first_line() -> None:
    assert read(b"sep=;\r\npath;label\r\na,b.png;x\r\n").rows == [("a,b.png", "x")]
    assert read(b'"sep=\t"\r\npath\tlabel\r\na.png\tx\r\n').rows == [("a.png", "x")]
    assert read(b"sep=;\rpath;label\ra.png;x\r").rows == [("a.png", "x")]


def test_a_single_column_has_no_separator() -> None:
    table = read(b'path\na,b.png\n"c;d.png"\n')
    assert table.rows == [("a,b.png",), ("c;d.png",)] and not table.notes


def test_cells_beyond_the_columns() -> None:
    table = read(b"path,label\na.png,x,y\nb.png,x,\nc.png\n")
    assert table.longer == [0] and table.rows == [("a.png", "x"), ("b.png", "x"), ("c.png", "")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "needs a column 'path'.* reads: nothing"),
        (b"file;label\na.png;x\n", "needs a column 'path'.* reads: file, label"),
        (b"path,label,label\n", "has the column label twice"),
        (b"path,label\na.png,caf\xe9\n", r"not UTF-8 text \(line 2 holds the byte 0xE9\): save it as UTF-8"),
        ("path\na.png\n".encode("utf-16-le"), "UTF-16 without a byte-order mark"),
        ("path\na.png\n".encode("utf-16")[:-1], "not UTF-16 text"),
        (b'path,label\n"' + b"x" * 200_000, "not a readable CSV"),
    ],
)
def test_tables_that_cannot_be_read(data: bytes, said: str) -> None:
    with pytest.raises(UserError, match=f"my.csv .*{said}"):
        read(data)


def test_unknown_words_are_what_pandas_takes_for_missing_and_a_question_mark() -> None:
    words = ["", "NA", "nan", "NaN", "null", "None", "N/A", "n/a", "<NA>", "#N/A", "NULL"]
    frame = pd.read_csv(io.StringIO("x,y\n" + "".join(f"{word},1\n" for word in words)))
    assert frame["x"].isna().all() and all(map(is_unknown, words))
    assert is_unknown(" ? ") and not any(map(is_unknown, ("0", "-1", "no", "x", "unknown")))


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("-2.5", -2.5), ("3,25", 3.25), ("1e2", 100), ("x", None), ("inf", None), ("", None)]
)
def test_numbers(text: str, value: float | None) -> None:
    assert np.isnan(number(text)) if value is None else number(text) == value


def test_marks_are_not_part_of_the_text() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert decoded_text("añ".encode(encoding), "x")[0] == "añ"
