"""A plan: which runs and rows an experiment needs, which exist, what is missing or stale, and how long that will take.

It is made before anything is loaded, from folders, run.json and rows alone; times come from a run's own log or from a
short measurement of one update and a few images. Carrying it out does its tasks in their order, and nothing else.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mdebench import catalog
from mdebench.data import finding, toyfaces
from mdebench.data.pack import ANNOTATED, ATTRIBUTES, Pack, open_pack, unlabelled
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.evaluation.contract import Cost
from mdebench.evaluation.judging.judges import judge_id
from mdebench.evaluation.judging.own_judge import OwnJudge
from mdebench.home import Home
from mdebench.results.probes import Schedule
from mdebench.results.rows import stored_rows, width_is_unknown
from mdebench.runs import Recipe, Run, other_pack
from mdebench.settings import SCALES, build, choose
from mdebench.suite import tasks
from mdebench.suite.experiments import Measure, Wanted, parts
from mdebench.suite.inventory.listing import counted
from mdebench.suite.speed import Speed, measure_speed, slowness
from mdebench.suite.tasks import Plan, State, Task
from mdebench.suite.wanted import lacking, references
from mdebench.training import recipes
from mdebench.variants import parse

LOADING = 0.3  # seconds to build a method, load its state and check its hash
SAMPLE = 50  # faces drawn to see how long drawing takes
NETWORKS = ("judge", "lpips", "masker")  # settings that a row tells by name and hash


@dataclass(frozen=True)
class Order:
    """What was asked for: an experiment, where, at what scale, on which pack, for which seeds, with what changed.

    `overrides` with a dot are a protocol's ("completion.images"), the others every run's, as in `mdebench pretrain`.
    `methods` and `protocols`, by name or path, are trained and measured beside those of the experiment. `gflop`: the
    operations of every run, which decide its updates; 0: the updates are those asked for. `probes`: when to look at
    runs on their way.
    """

    home: Home
    what: str
    scale: str
    pack: str
    seeds: tuple[int, ...] = (0,)
    overrides: Mapping[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    gflop: float = 0.0
    probes: Schedule | None = None

    def of_protocol(self, name: str) -> dict[str, str]:
        """The overrides of one protocol's settings."""
        return {key.partition(".")[2]: value for key, value in self.overrides.items() if key.startswith(f"{name}.")}

    @property
    def of_runs(self) -> dict[str, str]:
        """The overrides of every run."""
        return {key: value for key, value in self.overrides.items() if "." not in key}


def make_plan(order: Order, console: Console, speed: Callable[[Recipe], Speed] = measure_speed) -> Plan:
    """The plan of an order. UserError for an unknown name, a wrong override, or a pack that cannot be had.

    Times follow from the `speed` of a recipe's method: by default as it is measured here and now.
    """
    scale = choose(order.scale, SCALES, "scale")
    for key in order.overrides:
        if "." in key:
            catalog.find_protocol(key.partition(".")[0])
    planner = _Planner(order, console, speed)
    perceptual = order.of_runs.get("perceptual", scale.perceptual)
    beside = [planner.beside(method, seed) for method in order.methods for seed in order.seeds]
    if order.what == "families":
        beside += [each for seed in order.seeds for each in planner.every(seed)]
    for part in parts(order.what, planner.source, scale, perceptual):
        runs = [planner.run(wanted, seed) for wanted in part.runs for seed in order.seeds]
        for measure in part.measures:
            planner.measure(measure, runs if measure.own else [*runs, *beside])
        for protocol in order.protocols:
            planner.measure(Measure(protocol), [*runs, *beside])
    return planner.plan()


class _Planner:
    """Collects tasks, each once, in an order in which each finds what it needs."""

    def __init__(self, order: Order, console: Console, speed: Callable[[Recipe], Speed]) -> None:
        self.order, self.console, self.home, self.speed = order, console, order.home, speed
        self.drawn = order.home.pack(order.pack).exists()
        self.pack, self.per_face = _pack(order, self.drawn)
        self.source = str(self.pack.info["source"])
        self.recipes: dict[str, Recipe] = {}
        self.units: dict[tuple[str, str], list[Any]] = {}  # (protocol, run) → cases
        self.notes: list[str] = []
        self.encoded: set[str] = set()  # runs whose features of the pack are counted
        self.speeds: dict[str, Speed] = {}

    def run(self, wanted: Wanted, seed: int) -> Recipe:
        """The recipe of a run in words; it becomes a task."""
        scenario = parse(wanted.label)
        ratio = {} if scenario.S is None else {"S": f"{scenario.S:g}"}
        return self._add(scenario.variant, seed, {**ratio, **wanted.overrides, **self.order.of_runs})

    def beside(self, method: str, seed: int) -> Recipe:
        """The recipe of a method that the experiment does not name; of the overrides it takes those that it knows."""
        return self._add(method, seed, self._fitting(method, recipes.RECIPE_KEYS))

    def every(self, seed: int) -> list[Recipe]:
        """The recipes of all the suite's own methods that are no references; whom the pack does not suit is noted."""
        found = []
        for name, entry in catalog.own_methods().items():
            if entry.load().Method.REFERENCE:
                continue
            try:
                found.append(self.beside(name, seed))
            except UserError as error:
                self._note(f"left out: {error}")
        return found

    def _fitting(self, method: str, more: Sequence[str]) -> dict[str, str]:
        known = {f.name for f in fields(catalog.method(method).load().Settings)}.union(more)
        return {key: value for key, value in self.order.of_runs.items() if key in known}

    def _add(self, method: str, seed: int, overrides: Mapping[str, str]) -> Recipe:
        if self.order.gflop and (of_one := self._gflop(method)):
            overrides = {**overrides, "updates": str(max(1, round(self.order.gflop / of_one)))}
        recipe = recipes.make_recipe(method, self.pack, self.order.scale, seed, overrides)
        return self.recipes.setdefault(recipe.name, recipe)

    def _gflop(self, method: str) -> float:
        """The operations of an update, 0 of what is not trained."""
        return counted(self.home, method, self.order.scale, self.console).gflop

    def measure(self, wanted: Measure, runs: Sequence[Recipe]) -> None:
        """Measure runs, and the untrained references, by a protocol; what cannot be measured is noted."""
        name, module = wanted.protocol, catalog.protocol(wanted.protocol)
        if reason := module.requires(self.pack):
            self._note(f"left out: {name} on {self.pack.name}: {reason}")
            return
        known = references(module.NEEDS)
        chosen = known if wanted.references is None else [name for name in wanted.references if name in known]
        lack = lacking(chosen)
        for reference, what in lack.items():
            self._note(f"left out: {reference}: {what}")
        for reference in [name for name in chosen if name not in lack]:
            recipe = self._add(reference, 0, self._fitting(reference, ()))
            self._cases(wanted, module, recipe)
        for recipe in runs:
            if measuring.able(recipes.method_of(recipe), name):
                self._cases(wanted, module, recipe)
            else:
                self._note(f"left out: {name} of {recipe.label}, which cannot be measured by it")

    def _cases(self, wanted: Measure, module: ModuleType, recipe: Recipe) -> None:
        settings = {**wanted.overrides, **({"scenario": recipe.label} if wanted.own else {})}
        known = {f.name for f in fields(module.Settings)}
        settings |= {"images": str(SCALES[self.order.scale].images)} if "images" in known else {}
        cases = module.cases(build(module.Settings, {**settings, **self.order.of_protocol(wanted.protocol)}))
        units = self.units.setdefault((wanted.protocol, recipe.name), [])
        units += [case for case in cases if case not in units]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def plan(self) -> Plan:
        """All tasks: pack, judge, runs in the order they were asked for, then rows protocol by protocol."""
        pack, judges = self._pack_task(), self._judge_tasks()
        tasks = [pack, *judges, *(self._run_task(recipe) for recipe in self.recipes.values())]
        judge = tuple(task.title for task in judges)
        tasks += [self._rows_task(name, self.recipes[run], cases, judge) for (name, run), cases in self.units.items()]
        return Plan(tuple(tasks), tuple(self.notes))

    # --- tasks and what they take

    def _pack_task(self) -> Task:
        name, count = self.pack.name, len(self.pack.images)
        draw = partial(tasks.draw, self.pack.size, count)
        if self.drawn:
            return Task("pack", name, "kept", "", 0, draw)
        return Task("pack", name, "missing", f"{count:,} faces to draw", count * self.per_face, draw)

    def _judge_tasks(self) -> list[Task]:
        """One for each classifier that is asked for and has to be trained first."""
        specs = {case.judge for cases in self.units.values() for case in cases if hasattr(case, "judge")}
        if "own" not in specs:
            return []
        known = judge_id(self.home, self.pack, "own") if self.drawn else None
        if known == "":
            self._note(f"no judge: {self.pack.name} has no classes to train one on")
            return []
        seconds = 0.0 if known else OwnJudge(self.home, self.pack).seconds_left * slowness()
        state: State = "kept" if known else "missing"
        do = partial(tasks.train_judge, self.order.pack)
        return [Task("judge", self.pack.name, state, "", seconds, do, needs=(f"pack {self.pack.name}",))]

    def _run_task(self, recipe: Recipe) -> Task:
        run = self.home.run(recipe.name)
        task = Task("run", recipe.name, "kept", "", 0, partial(tasks.train, recipe, self.order.pack, self.order.probes))
        task = replace(task, needs=(f"pack {self.pack.name}",), run=recipe.name)
        if run.finished:
            if self.drawn and run.info["updates"] and (other := other_pack(run.info, self.pack.hash)):
                self._note(f"{recipe.name} was trained on {other}")
            return task
        if recipes.method_of(recipe).load().Method.REFERENCE:
            return replace(task, state="missing", left="nothing to train", seconds=LOADING)
        done, logged = run.info.get("step", 0), run.info.get("images_per_second", 0)
        update = recipe.batch / logged if logged else self._speed(recipe).update
        left, seconds = f"{recipe.updates - done:,} of {recipe.updates:,} updates", (recipe.updates - done) * update
        return replace(task, state="begun" if done else "missing", left=left, seconds=LOADING + seconds)

    def _rows_task(self, name: str, recipe: Recipe, cases: Sequence[Any], judge: tuple[str, ...]) -> Task:
        run = self.home.run(recipe.name)
        states = [self._state(name, case, run) for case in cases]
        todo = [case for case, state in zip(cases, states) if state != "kept"]
        state: State = "stale" if "stale" in states else "missing" if todo else "kept"
        left = f"{len(todo)} of {len(cases)} units" if todo else ""
        seconds = self._seconds(catalog.protocol(name), recipe, todo)
        measure = partial(tasks.measure, name, recipe.name, self.order.pack, [asdict(case) for case in todo])
        needs = (f"run {recipe.name}", *(judge if hasattr(cases[0], "judge") else ()))
        called = f"{catalog.find_protocol(name).name} of {recipe.name}"
        return Task("rows", called, state, left, seconds, measure, needs, recipe.name)

    def _state(self, name: str, case: Any, run: Run) -> State:
        """Whether a case's rows are there; stale: only rows of another version, other weights, another judge or an
        unknown width are."""
        if not (self.drawn and run.finished):
            return "missing"
        judge = judge_id(self.home, self.pack, case.judge) if hasattr(case, "judge") else ""
        stored = stored_rows(self.home, catalog.find_protocol(name).name, run.folder.name)
        rows = [row for row in stored if row["dataset"] == self.pack.name]
        if judge is not None:
            key = measuring.case_key(self.home, name, case, run.info, self.pack, judge)
            if any(row["key"] == key and not width_is_unknown(row) for row in rows):
                return "kept"
        return "stale" if any(_same(case, row["protocol_settings"]) for row in rows) else "missing"

    def _seconds(self, module: ModuleType, recipe: Recipe, cases: Sequence[Any]) -> float:
        """What cases take: images at the measured speed of the method, the rest at the speed of this machine."""
        if not cases:
            return 0.0
        speed, total = self._speed(recipe), LOADING
        features = self.home.runs / recipe.name / "features"
        if module.FEATURES and recipe.name not in self.encoded and not any(features.glob(f"{self.pack.hash[:12]}-*")):
            self.encoded.add(recipe.name)
            total += len(self.pack.images) * speed.encode
        for case in cases:
            cost = module.cost(self.pack, case) if module.cost else Cost(seconds=1.0)  # a guess, where nothing is said
            total += cost.encoded * speed.encode + cost.completed * speed.complete + cost.seconds * slowness()
        return total

    def _speed(self, recipe: Recipe) -> Speed:
        """Taken once for each network: variants and ratios cost the same."""
        same = {key: value for key, value in recipe.settings.items() if key not in ("variant", "S")}
        entry = recipes.method_of(recipe)
        what = json.dumps([entry.module or entry.place, same, recipe.batch, recipe.precision])
        if what not in self.speeds:
            self.speeds[what] = self.speed(recipe)
        return self.speeds[what]


def _pack(order: Order, drawn: bool) -> tuple[Pack, float]:
    """The pack of an order, and the seconds that a face takes to draw; of a pack not drawn yet all but its pictures.

    Its labels are those of a few faces, drawn for their time, and repeated: enough to plan with.
    """
    path, size = order.home.pack(order.pack), finding.embedded_size(order.pack)
    if drawn or size is None:
        return open_pack(path), 0.0
    begin = time.perf_counter()
    drawn_faces = list(toyfaces.generate(SAMPLE, size))
    per_face = (time.perf_counter() - begin) / SAMPLE
    count = SCALES[order.scale].faces
    rows = np.arange(count) % SAMPLE
    attributes, landmarks = (
        np.concatenate([getattr(c, what) for c in drawn_faces])[rows] for what in ("attributes", "landmarks")
    )
    identity = (np.arange(count) // toyfaces.PICTURES).astype(np.int32)
    known: dict[str, NDArray[Any]] = {
        **{"attributes": attributes, "landmarks": landmarks, "landmark_source": np.full(count, ANNOTATED, np.uint8)},
        **{"identity": identity, "split": toyfaces.split_of(identity)},
    }
    info = {"source": "toyfaces", "hash": "", "attribute_names": ATTRIBUTES}
    return Pack(path, info, **{**unlabelled(count, size, len(ATTRIBUTES)), **known}), per_face


def _same(case: Any, recorded: Mapping[str, Any]) -> bool:
    """Whether rows with these recorded settings answer the same question as a case, whoever judged."""
    plain = {key: value for key, value in asdict(case).items() if key not in NETWORKS}
    return plain == {key: value for key, value in recorded.items() if key not in NETWORKS}
