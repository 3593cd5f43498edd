"""Settings and catalog: what a misspelt word is answered, and that one new file is found because it is there."""

from dataclasses import dataclass

import pytest

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.settings import SCALES, build, parse_overrides, suggest


@dataclass(frozen=True)
class Example:
    weight: float = 1.0
    count: int = 2
    flag: bool = False
    ratio: float | None = None
    stages: tuple[int, ...] | None = None
    name: str = "x"


def test_strings_become_the_declared_types():
    made = build(
        Example, {"weight": "0.5", "count": "3", "flag": "true", "ratio": "none", "stages": "1,2", "name": "7"}
    )
    assert made == Example(0.5, 3, True, None, (1, 2), "7")
    assert build(Example, {"stages": ""}).stages == ()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("wieght", "1", "Did you mean 'weight'"),
        ("count", "2.5", "not a whole number"),
        ("count", 2.5, "not a whole number"),
        ("weight", "heavy", "not a number"),
        ("flag", "maybe", "not true or false"),
        ("ratio", "half", "not a number"),
        ("weight", "nan", "weight=nan is no finite number"),
        ("weight", "1e400", "weight=1e400 is no finite number"),
        ("weight", "٠.١", "not a number"),
        ("count", "٣", "not a whole number"),
        ("count", "10000000000", "too large: whole numbers end at 2,147,483,647"),
        ("stages", "1,٣", "not a whole number"),
    ],
)
def test_a_wrong_override_is_one_sentence(key, value, message):
    with pytest.raises(UserError, match=message):
        build(Example, {key: value})


def test_overrides_need_an_equals_sign():
    assert parse_overrides(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(UserError, match="name=value"):
        parse_overrides(["a"])


def test_suggestions():
    assert "'rec'" in suggest("recc", ["rec", "inpainting"]) and suggest("zzz", ["rec"]) == ""


def test_the_paper_scale_is_the_papers():
    paper = SCALES["paper"]
    assert (paper.size, paper.width, paper.code, paper.batch, paper.updates) == (96, 64, 4000, 24, 300_000)
    settings = catalog.method("rec").settings(paper, {})
    assert (settings.vgg_weight, settings.adv_weight, settings.hns_weight) == (2e-5, 1e-2, 1e-2)
    assert (settings.generator_lr, settings.discriminator_lr, settings.beta1) == (2e-4, 2e-5, 0.5)


def test_short_names_and_unknown_ones():
    assert catalog.method("ri").name == "reverse_inpainting" and catalog.method("c2").name == "colorization2"
    with pytest.raises(UserError, match="Did you mean 'inpainting'"):
        catalog.method("inpaiting")
    with pytest.raises(UserError, match="Did you mean 'landmarks'"):
        catalog.find_protocol("landmark")


def test_one_new_file_is_a_method(tmp_path, monkeypatch):
    import mdebench.baselines

    (tmp_path / "newcomer.py").write_text('"""Nothing."""\n')
    monkeypatch.setattr(mdebench.baselines, "__path__", [*mdebench.baselines.__path__, str(tmp_path)])
    catalog.own_methods.cache_clear(), catalog.methods.cache_clear()
    try:
        assert "newcomer" in catalog.methods() and "rec" in catalog.methods()
    finally:
        catalog.own_methods.cache_clear(), catalog.methods.cache_clear()
