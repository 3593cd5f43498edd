"""Paths that users give: folders of any name take the whole way, and what is not there is said as that."""

import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mdebench.cli.main import cli, main
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.training.recipes import make_recipe, train_run

METHOD = '''
"""The mean colour of cells.

Command: ``mdebench pretrain cells``. Expected: nothing.
"""
from dataclasses import dataclass

from torch import nn
from torch.nn.functional import avg_pool2d

from mdebench.methods import Loss, Player
from mdebench.methods import Method as BaseMethod


@dataclass(frozen=True)
class Settings:
    lr: float = 1e-3


class Method(BaseMethod):
    def __init__(self, settings, size):
        super().__init__(settings, size)
        self.feature_dim = 48
        self.net = nn.Linear(48, 48)

    def players(self):
        return {"net": Player(list(self.parameters()), self.settings.lr)}

    def loss(self, player, batch):
        error = (self.encode(batch.images) - 1).square().mean()
        return Loss(error, {"error": error})

    def encode(self, images):
        return self.net(avg_pool2d(images, images.shape[-1] // 4).flatten(1))
'''


def invoke(*words, **env):
    result = CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False, env=env)
    assert result.exit_code == 0, result.output
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", result.output)


def refused(*words):
    with pytest.raises(UserError) as told:
        CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False)
    return str(told.value)


@pytest.fixture
def run(home, pack, console):
    return train_run(home, make_recipe("pixels", pack, "tiny", 0, {}), pack, console)


@pytest.mark.parametrize("name", ["[2024] a[1]b [bold] {x} %s%% $y^$", '-dash it\'s "so" *?'])
def test_a_folder_of_any_name_takes_the_whole_way(tmp_path, monkeypatch, name):
    """Home, pictures, a method's file, results and exported files in such folders, on a terminal as elsewhere."""
    monkeypatch.chdir(tmp_path)
    home, pictures, code = f"{name} home", tmp_path / f"{name} data", tmp_path / f"{name} code"
    pictures.mkdir()
    code.mkdir()
    (code / "cells.py").write_text(METHOD)
    rng = np.random.default_rng(0)
    lines = ["path,split,Dark"]
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(pictures / f"{number}.png")
        lines.append(f"{number}.png,{('train', 'test')[number % 4 == 3]},{number % 2}")
    (pictures / "labels.csv").write_text("\n".join(lines))
    at = {"FORCE_COLOR": "1"}  # rich then takes it for a terminal, where bars are drawn
    invoke("data", "prepare", "folder", "--root", pictures.name, "--size", 16, "--name", "mine", "--home", home, **at)
    pack = tmp_path / f"{name} packs" / name  # at a path, and of another name
    shutil.copytree(tmp_path / home / "packs" / "mine", pack)
    words = ["--scale", "tiny", "--pack", str(pack), "--updates", 2, "--set", "batch=4", "--home", home]
    assert f"in {home}" in invoke("pretrain", f"./{code.name}/cells.py", *words, **at)
    (trained,) = Home(home).list_runs()
    renamed = trained.folder.rename(trained.folder.with_name(f"{name} run"))
    invoke("measure", "attributes", "--set", "updates=3", "--pack", pack, "--home", home, "--", renamed.name, **at)
    assert re.search(r"attributes +\d+", invoke("show", "--home", home, "--", f"./{renamed}"))
    for command in ("tables", "figures", "report"):
        assert str(Home(home).folder) in invoke(command, "--home", home, **at)
    out = f"./{name} out/{name}.safetensors"
    assert str(tmp_path.name) not in invoke("export", "--to", out, "--home", home, "--", f"./{renamed}", **at)
    invoke("embed", out, f"./{pictures.name}", "--out", f"./{name} out/codes.npy", "--home", home, **at)
    assert np.load(tmp_path / f"{name} out" / "codes.npy").shape == (40, 48)


def test_a_home_that_is_not_there_is_no_empty_one(tmp_path):
    gone = tmp_path / "gone"
    for words in (
        *(["transfer", "attributes"], ["occlusion"], ["measure", "classes"], ["tables"], ["figures"], ["report"]),
        *(["audit"], ["runs"], ["prune"], ["compare", "a", "b"], ["export", "a", "--to", "a.pt"], ["embed", "a", "."]),
    ):
        said = refused(*words, "--home", gone)
        assert said.startswith(f"there is no folder {gone} (--home)"), words
    assert not gone.exists()
    assert refused("audit", gone) == f"there is no folder {gone} to audit"
    assert f"there is no folder {gone}" in refused("complete", "a.png", "--run", "a", "--home", gone)


def test_a_run_by_its_path_is_that_run_or_none(run, home, tmp_path):
    said = refused("measure", "classes", "./nowhere/run", "--home", home)
    assert said.startswith("there is no file or folder ./nowhere/run")
    (tmp_path / "empty").mkdir()
    assert "is no run: it has no run.json" in refused("measure", "classes", f"{tmp_path}/empty", "--home", home)
    assert "no such file" in refused("embed", "gone.safetensors", tmp_path, "--home", home)
    other = tmp_path / "other"
    shutil.copytree(run.folder, other / "runs" / run.folder.name)
    said = refused("measure", "attributes", other / "runs" / run.folder.name, "--home", home)
    assert said.endswith(f"give --home {other} with it")
    file = tmp_path / "exported.safetensors"
    file.touch()
    assert f"{file} is a file, where a run is asked for" in refused("measure", "classes", file, "--home", home)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("./gone.py", "there is no file ./gone.py with a method"),
        ("./mine", r"there is no file ./mine with a method; .* Did you mean ./mine.py?"),
        ("./here", "./here is a folder: a method is one file of Python"),
        ("./mine.txt", "./mine.txt does not end in .py: a method is one file of Python"),
    ],
)
def test_a_method_s_file_that_is_none_is_told_by_what_is_there(tmp_path, monkeypatch, word, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for name in ("mine.py", "mine.txt"):
        (tmp_path / name).write_text(METHOD)
    told = refused("pretrain", word)
    assert told.startswith(said.partition(" .* ")[0]) and told.endswith(said.partition(" .* ")[2])


def test_pictures_to_embed_are_in_a_folder(run, home, tmp_path):
    (tmp_path / "file").touch()
    assert refused("embed", run.folder.name, tmp_path / "gone", "--home", home) == f"there is no folder {tmp_path}/gone"
    assert "is a file: name the folder" in refused("embed", run.folder.name, tmp_path / "file", "--home", home)


def test_a_file_where_a_folder_is_wanted_is_a_sentence(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        "sys.argv", ["mdebench", "report", "--out", f"{tmp_path}/file/report.html", "--home", str(home)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err == f"Error: {tmp_path}/file: a file is where a folder is wanted; choose another path\n"
    )


def test_a_source_that_looks_like_markup_is_printed_as_it_is(tmp_path):
    words = ["data", "prepare", "[/bold]", "--home", str(tmp_path)]
    with pytest.raises(UserError, match=r"There is no source '\[/bold\]'"):
        CliRunner().invoke(cli, words, catch_exceptions=False, env={"FORCE_COLOR": "1"})
