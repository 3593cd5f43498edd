"""Doors for others' code: by path and by entry point, here and in other processes, named in rows, never in the way."""

import json
import re
import sys

import pytest
from click.testing import CliRunner
from elsewhere import METHOD, PROTOCOL

from mdebench import catalog
from mdebench.cli.main import cli
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.results.rows import read_rows
from mdebench.suite.inventory.checking import check_file
from mdebench.training.recipes import make_recipe, train_run

TINY = ("--scale", "tiny", "--pack", "toyfaces16", "--updates", "6", "--set", "code=8")


@pytest.fixture
def method(tmp_path):
    path = tmp_path / "else where" / "tint.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(METHOD)
    return path


@pytest.fixture
def protocol(method):
    path = method.with_name("upturned.py")
    path.write_text(PROTOCOL)
    return path


def invoke(home, *words):
    result = CliRunner().invoke(cli, [*map(str, words), "--home", str(home)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_by_path_trained_measured_and_in_table_chart_and_report(home, method, protocol):
    for seed in (0, 1):
        invoke(home, "pretrain", method, *TINY, "--seed", seed)
    said = invoke(home, "measure", protocol, "--jobs", "2")
    assert "6 new rows" not in said and " new rows" in said
    rows = read_rows(home).query("label == 'tint'")
    assert set(rows["protocol"]) == {"upturned"} and set(rows["seed"]) == {0, 1}
    assert all(source.startswith("tint.py, sha256 ") for source in rows["method_source"])
    assert all(source.startswith("upturned.py, sha256 ") for source in rows["protocol_source"])
    assert str(home) not in "".join(rows["method_source"]) + "".join(rows["protocol_source"])  # no path of a machine
    assert "0 new rows" in invoke(home, "measure", protocol)
    written = invoke(home, "tables") + invoke(home, "figures") + invoke(home, "report")
    table = (home.tables / "upturned-toyfaces16-tiny.md").read_text()
    assert "# Turned upside down" in table and "| tint" in table and "protocol upturned from upturned.py" in table
    assert (home.figures / "upturned-toyfaces16-tiny.png").is_file() and "upturned" in written
    page = home.report.read_text()
    assert "Turned upside down" in page and "tint" in page


def test_a_table_is_made_without_the_file(home, method, protocol):
    invoke(home, "pretrain", method, *TINY)
    invoke(home, "measure", protocol)
    protocol.unlink()
    method.unlink()
    invoke(home, "tables")
    assert "# Turned upside down" in (home.tables / "upturned-toyfaces16-tiny.md").read_text()


def test_a_run_whose_method_is_gone_is_left_out_and_stops_nobody(home, pack, method, console):
    gone = train_run(home, make_recipe(str(method), pack, "tiny", 0, {"updates": "2"}), pack, console)
    here = train_run(home, make_recipe("pixels", pack, "tiny", 0, {}), pack, console)
    method.unlink()
    assert measuring.measure(home, "landmarks", [gone, here], pack, {"setting": "frozen-probe"}, console) > 0
    assert "left out" in console.file.getvalue() and "tint" in console.file.getvalue()
    assert set(read_rows(home)["method"]) == {"pixels"}
    named = ("measure", "landmarks", gone.folder.name, here.folder.name, "--set", "setting=frozen-probe")
    for words in (("list", "--scale", "tiny"), ("runs",), ("measure", "landmarks", "--jobs", "2"), named):
        invoke(home, *words)


def test_code_that_changed_is_told_and_kept_rows_say_which_code_they_are_of(home, method, protocol):
    invoke(home, "pretrain", method, *TINY)
    invoke(home, "measure", protocol)
    protocol.write_text(PROTOCOL.replace("100 *", "200 *"))
    method.write_text(METHOD + "# a comment\n")
    said = invoke(home, "measure", protocol)
    assert "measured by other code" in said and "VERSION is still 1" in said and "was trained by tint.py" in said
    protocol.write_text(PROTOCOL.replace("100 *", "200 *").replace("VERSION = 1", "VERSION = 2"))
    invoke(home, "measure", protocol)
    values = read_rows(home).query("label == 'tint'").set_index("protocol_version")["value"]
    assert values[2] == pytest.approx(2 * values[1])


def test_reproduce_takes_methods_and_protocols_along(home, method, protocol):
    words = ["reproduce", "table3", "--scale", "tiny", "--pack", "toyfaces16", "--set", "updates=2", "--set", "width=2"]
    words += ["--set", "code=4", "--set", "occlusion.preset=mouth", "--method", method, "--protocol", protocol]
    plan = invoke(home, *words, "--dry-run")
    assert "upturned" in plan and "-tint-" in plan
    invoke(home, *words, "--jobs", "2")
    rows = read_rows(home)
    assert set(rows.query("protocol == 'upturned'")["method"]) >= {"rec", "tint"}
    assert "nothing is missing" in invoke(home, *words)


def test_two_processes_train_it(home, method):
    invoke(home, "pretrain", method, *TINY, "--devices", "2")
    (run,) = home.list_runs()
    assert run.finished and [stretch["processes"] for stretch in run.info["stretches"]] == [2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rec.py", METHOD, "rec is the name of the suite's own method"),
        ("two words.py", METHOD, "use letters, digits and _"),
        ("gone.py", None, "there is no file"),
        ("empty.py", "", "is no method: it lacks Method, Settings"),
        ("typo.py", "def f(:\n", r"SyntaxError: .*\(line 1\)"),
        ("wrong.py", "\n\nimport no_such_thing\n", r"ModuleNotFoundError: .*\(line 3\)"),
        ("late.py", "\n1 / 0\n", r"ZeroDivisionError: .*\(line 2\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_a_sentence(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        catalog.method(str(path)).load()


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "parts_of_tint.py").write_text("CODE = 5\n")
    path = tmp_path / "tint2.py"
    path.write_text(
        METHOD.replace("code: int = 16", "code: int = CODE").replace(
            "from torch", "from parts_of_tint import CODE\nfrom torch"
        )
    )
    assert catalog.method(str(path)).load().Settings().code == 5
    assert str(tmp_path) not in sys.path


# --- entry points


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """A tiny installed distribution, as an installer leaves it: modules and metadata on the path."""
    site = tmp_path / "site"
    (site / "tinting").mkdir(parents=True)
    (site / "tinting" / "__init__.py").write_text("")
    (site / "tinting" / "tint.py").write_text(METHOD)
    (site / "tinting" / "upturned.py").write_text(PROTOCOL)
    info = site / "tinting-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinting\nVersion: 1.2\n")
    points = "[mdebench.methods]\ntint = tinting.tint\nrec = tinting.tint\nbroken = tinting.nothing\n"
    (info / "entry_points.txt").write_text(points + "[mdebench.protocols]\nupturned = tinting.upturned\n")
    monkeypatch.syspath_prepend(str(site))
    for found in (catalog.methods, catalog.protocols):
        found.cache_clear()
    yield site
    for found in (catalog.methods, catalog.protocols):
        found.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tinting"]:
        del sys.modules[name]


def test_by_entry_point(home, distribution, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(distribution))  # for the workers
    invoke(home, "pretrain", "tint", *TINY)
    invoke(home, "measure", "upturned", "--jobs", "2")
    rows = read_rows(home).query("label == 'tint'")
    assert all(source.startswith("tinting 1.2, sha256 ") for source in rows["method_source"])
    invoke(home, "tables")
    assert "# Turned upside down" in (home.tables / "upturned-toyfaces16-tiny.md").read_text()
    assert "upturned (tinting 1.2)" in invoke(home, "protocols")
    assert "from tinting 1.2" in invoke(home, "list", "--scale", "tiny")


def test_an_entry_point_is_loaded_only_when_named_and_takes_no_name_from_ours(distribution):
    names = catalog.methods()
    assert "tinting.tint" not in sys.modules
    assert names["rec"].place == "" and names["tinting.rec"].module == "tinting.tint"
    with pytest.raises(UserError, match=r"tinting\.nothing of tinting 1\.2 cannot be imported"):
        catalog.method("broken").load()


# --- the contract


def test_check_says_that_a_good_file_keeps_the_contract(method, protocol, console):
    check_file(str(method), console)
    check_file(str(protocol), console)
    said = console.file.getvalue()
    assert "tint keeps the contract of a method" in said and "upturned keeps the contract of a protocol" in said


PEEKS = (
    METHOD
    + """
    def complete(self, images, seen):
        return images
"""
)
UNLIKELY = (
    METHOD
    + """
    def likelihood(self, images):
        return images.mean(dim=(1, 2, 3))
"""
)
CROWDED = UNLIKELY.replace("images.mean(dim=(1, 2, 3))", "-images.sum().expand(len(images))")
NEIGHBOURS = METHOD.replace("return self.encoder(images)", "return self.encoder(images - images.mean(dim=0))")
WRONG_SHAPE = METHOD.replace("self.feature_dim = settings.code", "self.feature_dim = 3")
NOT_MOVED = METHOD.replace("list(self.parameters())", "list(self.decoder.parameters())")
FORGETFUL = METHOD.replace("error = (", "error = __import__('random').random() * (")
NOT_FINITE = METHOD.replace("return Loss(error", "return Loss(error / 0")
UNSTEADY = PROTOCOL.replace(
    "code, turned = encode(method, images)", "code, turned = encode(method, images * torch.rand(1))"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PEEKS, "`complete` looks at pixels that are not seen"),
        (UNLIKELY, "a finite number and at most 0"),
        (CROWDED, "the likelihood of an image depends on its neighbours"),
        (NEIGHBOURS, "depends on its neighbours in the batch"),
        (WRONG_SHAPE, r"promises \(N, feature_dim\) = \(5, 3\)"),
        (NOT_MOVED, "updates do not move the encoder"),
        (FORGETFUL, "does not go on to the same bits"),
        (NOT_FINITE, "not finite"),
        (METHOD.replace("Expected:", ""), "it lacks Expected"),
        (METHOD.replace("(frozen=True)", ""), "frozen dataclass"),
        (METHOD.replace("code: int = 16", "code: int"), "non-default|has no default"),
        (UNSTEADY, "measured twice gives other numbers"),
        (PROTOCOL.replace('NEEDS = "encode"', 'NEEDS = "everything"'), "NEEDS is 'everything', not 'encode'"),
        (PROTOCOL.replace("DISPLAY = Display(", "DISPLAY = dict(title="), "positional argument|not a Display"),
    ],
)
def test_check_explains_what_fails(tmp_path, console, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        check_file(str(path), console)
    assert re.search(message, console.file.getvalue() + str(raised.value)), console.file.getvalue()


def test_what_a_display_says_lies_beside_the_rows(home, method, protocol):
    invoke(home, "pretrain", method, *TINY)
    invoke(home, "measure", protocol)
    said = json.loads((home.rows / "upturned" / "display.json").read_text())
    assert said["title"] == "Turned upside down" and said["version"] == 1 and said["source"].startswith("upturned.py")


# --- what a stranger's files did


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("@dataclass(frozen=True)\n", ""), "Settings is not a dataclass"),
        (("class Method(BaseMethod)", "class Method"), "is not a subclass of mdebench.methods.Method"),
        (("super().__init__(settings, size)", "1 / 0"), r"tint \(.*\) failed: ZeroDivisionError: .*\(line \d+\)"),
        (("return Loss(error", "raise KeyError('x'); return Loss(error"), r"failed: KeyError: 'x' \(line \d+\)"),
        (("return Loss(error", "raise SystemExit(3); return Loss(error"), "failed: SystemExit: 3"),
        (("return Loss(error, ", "return (error, "), "failed: AttributeError"),
    ],
)
def test_whatever_a_method_s_file_raises_is_a_sentence(home, method, change, message):
    method.write_text(METHOD.replace(*change))
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(cli, ["pretrain", str(method), *TINY, "--home", str(home)], catch_exceptions=False)
    assert all(run.info["status"] == "failed" for run in home.list_runs())  # none says for ever that it is running


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('NEEDS = "encode"', 'NEEDS = "wings"'), "NEEDS is 'wings'"),
        (("VERSION = 1", 'VERSION = "one"'), "VERSION is 'one', not a whole number"),
        (("    return [measure_mean", "    return [1.0]; [measure_mean"), "is to return a list of Measurement"),
        (("    return [measure_mean", "    return 2 * [measure_mean"), "measures moved, upside down, test twice"),
        (("    moved = []", "    moved = [] + 1"), r"upturned \(.*\) failed: TypeError: .*\(line \d+\)"),
        (
            ("def evaluate(", "def cases(settings):\n    return []\n\n\ndef evaluate("),
            "a list of Settings, at least one",
        ),
        (
            ("def evaluate(", "def requires(pack):\n    return False\n\n\ndef evaluate("),
            "return None, or in words why not",
        ),
    ],
)
def test_whatever_a_protocol_s_file_does_is_a_sentence_and_nothing_is_stored(home, method, protocol, change, message):
    invoke(home, "pretrain", method, *TINY)
    (run,) = home.list_runs()
    protocol.write_text(PROTOCOL.replace(*change))
    words = ["measure", str(protocol), run.folder.name, "--home", str(home)]
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert len(read_rows(home)) == 0


def test_a_run_whose_file_is_broken_or_no_longer_fits_stops_nobody(home, pack, method, console):
    theirs = train_run(home, make_recipe(str(method), pack, "tiny", 0, {"updates": "2"}), pack, console)
    here = train_run(home, make_recipe("pixels", pack, "tiny", 0, {}), pack, console)
    method.write_text("def f(:\n")
    assert measuring.measure(home, "landmarks", [theirs, here], pack, {"setting": "frozen-probe"}, console) > 0
    assert "left out" in console.file.getvalue() and "SyntaxError" in console.file.getvalue()
    method.write_text(METHOD.replace("nn.Linear(settings.code, 3)", "nn.Linear(settings.code, 3, bias=False)"))
    other = train_run(home, make_recipe("constant", pack, "tiny", 0, {}), pack, console)
    with pytest.raises(UserError, match=r"not all was measured: .*tint.*does not fit"):
        measuring.measure(home, "landmarks", [theirs, here, other], pack, {"setting": "frozen-probe"}, console)
    assert set(read_rows(home)["method"]) == {"pixels", "constant"}


def test_pretraining_and_loading_tell_that_the_code_has_changed(home, method, tmp_path):
    import mdebench

    invoke(home, "pretrain", method, *TINY)
    moved = tmp_path / "moved" / "tint.py"
    moved.parent.mkdir()
    method.rename(moved)
    moved.write_text(METHOD + "# changed\n")
    assert "was begun by tint.py" in invoke(home, "pretrain", moved, *TINY)  # and its new place is noted
    (run,) = home.list_runs()
    said = invoke(home, "export", run.folder.name, "--to", tmp_path / "e.safetensors")
    assert "was trained by tint.py" in said
    assert mdebench.load(tmp_path / "e.safetensors").feature_dim == 8


def test_a_method_without_players_is_told(home, method):
    method.write_text(METHOD.replace("def players", "def player"))
    assert "has no players, so there is nothing to train" in invoke(home, "pretrain", method, *TINY)


def test_a_wrong_feature_dim_is_never_stored(home, method):
    invoke(home, "pretrain", method, *TINY)
    (run,) = home.list_runs()
    # Where a run begins it is refused; the code may change afterwards.
    method.write_text(METHOD.replace("self.feature_dim = settings.code", "self.feature_dim = 3"))
    with pytest.raises(UserError, match=r"promises \(N, feature_dim\) = \(\d+, 3\) and gives"):
        CliRunner().invoke(cli, ["transfer", "landmarks", run.folder.name, "--home", str(home)], catch_exceptions=False)
    assert set(read_rows(home)["method"]) <= {"pixels", "constant", "random"}
