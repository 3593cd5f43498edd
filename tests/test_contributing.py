"""CONTRIBUTING.md is true: its map is what the rooms say, and both of its examples run as they stand there."""

import pytest
from click.testing import CliRunner
from rooms import BEGIN, END, PAGE, rooms_map

from mdebench import catalog
from mdebench.cli.main import cli
from mdebench.results.rows import read_rows


def examples():
    return [part.split("```")[0] for part in PAGE.read_text().split("```python\n")[1:]]


def test_the_map_is_what_the_rooms_say():
    """Else `make rooms` writes it anew."""
    assert PAGE.read_text().partition(BEGIN)[2].partition(END)[0] == rooms_map()


def forget():
    for found in (catalog.own_methods, catalog.own_protocols, catalog.methods, catalog.protocols):
        found.cache_clear()


def invoke(*words):
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("place", ["by path", "in the folders"])
def test_the_examples_are_a_method_and_a_protocol(home, tmp_path, monkeypatch, place):
    method, protocol = examples()
    names = []
    for folder, name, text in (("baselines", "mymethod", method), ("protocols", "myprotocol", protocol)):
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir()
        path.write_text(text)
        names.append(str(path))
    if place == "in the folders":
        import mdebench.baselines
        import mdebench.protocols

        for folder in (mdebench.baselines, mdebench.protocols):
            own = str(tmp_path / folder.__name__.rpartition(".")[2])
            monkeypatch.setattr(folder, "__path__", [*folder.__path__, own])
        forget()
        names = ["mymethod", "myprotocol"]
    try:
        for name in names:
            assert "keeps the contract" in invoke("check", name)
        where = ["--home", str(home)]
        invoke(
            "pretrain", names[0], "--scale", "tiny", "--pack", "toyfaces16", "--set", "code=6", "--updates", "3", *where
        )
        invoke("measure", names[1], *where)
        invoke("tables", *where)
    finally:
        forget()
    rows = read_rows(home).query("method == 'mymethod'")
    assert list(rows["metric"]) == ["moved"] and rows["value"].iloc[0] > 0
    table = (home.tables / "myprotocol-toyfaces16-tiny.md").read_text()
    assert "# Turned upside down: how far the code moves" in table and "mymethod" in table
