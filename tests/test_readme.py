"""The README's examples in Python run as they stand there, in a home with the run and the file that they name."""

from pathlib import Path

import pytest

import mdebench
from mdebench.evaluation.encoders.export import export
from mdebench.training.recipes import make_recipe, train_run

README = Path(__file__).resolve().parent.parent / "README.md"
RUN = "toyfaces64-rec-S0.1-small-seed0"
EXAMPLES = [part.split("```")[0] for part in README.read_text().split("```python\n")[1:]]


def test_there_are_three():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("place", range(3))
def test_an_example_runs(home, pack, console, monkeypatch, place):
    small = {"width": "2", "code": "4", "updates": "2"}
    run = train_run(home, make_recipe("rec", pack, "tiny", 0, small), pack, console)
    run.folder.rename(home.runs / RUN)
    monkeypatch.chdir(home)
    export(mdebench.load(RUN), home.folder / "encoder.safetensors")
    code = EXAMPLES[place].replace('"toyfaces64"', '"toyfaces16"').replace('"size": 64', '"size": 32')
    told = {}
    exec(compile(code, "README.md", "exec"), told)
    if place == 0:
        assert (
            told["codes"].shape == (8, 4) and told["completed"].shape == told["images"].shape and len(told["maps"]) == 2
        )
    if place == 1:
        assert set(told["table"]["label"]) == {"resnet18"} and {"layer1", "layer4", "code"} == set(
            told["deeper"]["setting"]
        )
        mdebench.measure(RUN, "attributes", pack)
        assert len(mdebench.rows()) > len(told["table"])
    if place == 2:
        assert set(told["table"]["run"]) == {RUN} and len(told["every"]) == 0
