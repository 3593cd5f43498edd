"""The example method of CONTRIBUTING.md, put into a file as the text says, trains and transfers."""

from pathlib import Path

import mdebench.baselines
from mdebench import catalog
from mdebench.evaluation import measuring
from mdebench.training import recipes

ROOT = Path(__file__).resolve().parent.parent


def test_the_example_is_a_method(home, pack, console, tmp_path, monkeypatch):
    code = (ROOT / "CONTRIBUTING.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "mymethod.py").write_text(code)
    monkeypatch.setattr(mdebench.baselines, "__path__", [*mdebench.baselines.__path__, str(tmp_path)])
    catalog.own_methods.cache_clear(), catalog.methods.cache_clear()
    try:
        recipe = recipes.make_recipe("mymethod", pack, "tiny", 0, {"updates": "3", "code": "6"})
        run = recipes.train_run(home, recipe, pack, console)
        assert run.finished and run.info["feature_dim"] == 6
        assert measuring.measure(home, "landmarks", [run], pack, {"updates": "5"}, console) > 0
    finally:
        catalog.own_methods.cache_clear(), catalog.methods.cache_clear()
