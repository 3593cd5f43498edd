"""Text of others in files of ours: names, labels and notes, spelled out where a format would take them for its own.

What any format has to show rather than do (control characters, turned writing) is `words.shown`; here is what Markdown,
a spreadsheet or a file's name would make of the rest. What acts in neither is left as it is.
"""

import hashlib
import re

from mdebench.words import shown

# Where it acts: HTML and autolinks, entities, links and footnotes, emphasis at the edge of a word, code, columns.
_MARKUP = re.compile(
    r"""[`|]                          # code, and columns of a table
    | <(?=[a-z/!?])                   # a tag, a comment, an autolink
    | &(?=\#?\w+;)                    # an entity
    | \[(?=\^) | \](?=[(\[])          # a footnote, a link
    | \](?=:\s*(?:<[^>]*>|\S+)(?:\s+["'(].*)?\s*$)  # what a link is defined by
    | \*(?=\S) | (?<=\S)\*            # emphasis
    | (?<![^\W_])_(?=\S) | (?<=\S)_(?![^\W_])
    | ~(?=\S) | (?<=\S)~
    | \\(?=[!-/:-@\[-`{-~]|$)         # what would take the next sign's meaning
    | \A(?:[#>+=-](?=\s|$) | \[(?=.\]) | \d+(?=[.)](?:\s|$)) | (?:-{3,}|={3,})$)   # a heading, list, quote or box""",
    re.VERBOSE | re.IGNORECASE,
)
_RUNS = "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"


def markdown(text: str) -> str:
    """The text as Markdown that reads so: within a heading, a cell of a table, or an item of a list."""
    return _MARKUP.sub(_marked, shown(text))


def _marked(found: re.Match[str]) -> str:
    sign = found[0]
    if sign == "<":
        return "&lt;"
    if sign == "&":
        return "&amp;"
    return f"{sign}\\" if sign.isdigit() else f"\\{sign}"


def csv_cell(text: str) -> str:
    """The text as a cell of a CSV file that no spreadsheet runs: a formula that is no number gets a '."""
    told = shown(text)
    if not told.lstrip().startswith(tuple(_RUNS)):
        return told
    try:
        float(told)
    except ValueError:
        return f"'{told}"
    return told


def file_stem(name: str) -> str:
    """A name without what means something in a path; with a digest of it where anything had to go."""
    plain = re.sub(r"[^\w.=+-]", "_", name).lstrip(".")
    return plain if plain == name else f"{plain}-{hashlib.sha256(shown(name).encode()).hexdigest()[:8]}"
