"""Finds methods and protocols: a file of ``baselines/`` or ``protocols/`` by its name, anybody's file by its path, and
what an installed distribution offers by entry point (``mdebench.methods``, ``mdebench.protocols``).

The six MDE variants are names for settings of ``mdebench.methods.mde``. Nothing is imported before it is named.
"""

import importlib
import keyword
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mdebench.errors import Interrupted, UserError
from mdebench.settings import Scale, build, choose
from mdebench.variants import ALIASES, VARIANTS

NEEDS = ("encode", "stages", "complete", "likelihood")  # what a protocol may ask of a method: one of its own methods


class Absent(UserError):
    """Code that a run names is not here."""


@dataclass(frozen=True)
class Code:
    """A method's or protocol's name, the module that it is, and the place that it is from.

    ``place`` is "" for the suite's own, else a file's absolute path or a distribution ("name 1.0"); ``kind`` is
    "method", "protocol", or "file" for what may be either; ``defaults`` are the settings that a method's name fixes.
    """

    kind: str
    name: str
    module: str
    place: str = ""
    defaults: tuple[tuple[str, Any], ...] = ()

    @property
    def word(self) -> str:
        """What finds it again, on the command line and in another process."""
        return self.place if self.is_file else self.name

    @property
    def is_file(self) -> bool:
        """Whether somebody's file was named by its path."""
        return self.place.endswith(".py")

    def load(self) -> ModuleType:
        """Import the module; UserError when somebody else's cannot be imported, or lacks what such a file must have."""
        if self.is_file:
            module = _import_file(Path(self.place))
        else:
            module = _import_foreign(self) if self.place else importlib.import_module(self.module)
        needed = _NEEDED[self.kind]
        where = self.place if self.is_file else f"{self.module} of {self.place or 'this checkout'}"
        if lacking := [name for name in needed if not hasattr(module, name)]:
            raise UserError(f"{where} is no {self.kind}: it lacks {', '.join(lacking)}; CONTRIBUTING.md has an example")
        if self.place and (wrong := _wrong(self.kind, module)):
            raise UserError(f"{where} is no {self.kind}: {wrong}; CONTRIBUTING.md has an example")
        if self.kind == "protocol":
            for name, usual in _LEFT_OUT.items():
                if not hasattr(module, name):
                    setattr(module, name, usual(module))
        return module

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Whatever somebody else's code raises in here is told in a sentence, with its line; our own is let through."""
        try:
            yield
        except (UserError, Interrupted):
            raise
        except (Exception, SystemExit) as error:
            if not self.place:
                raise
            file = Path(str(self.load().__file__))
            raise UserError(f"{self.name} ({self.place}) failed: {told(error, file)}") from error

    @property
    def source(self) -> str:
        """As rows tell it: "" for the suite's own, else file or distribution and the SHA-256 of the file."""
        if not self.place:
            return ""
        told = Path(self.place).name if self.is_file else self.place
        return f"{told}, sha256 {_hash(Path(str(self.load().__file__)).read_bytes())}"

    def settings(self, scale: Scale | None, overrides: Mapping[str, Any]) -> Any:
        """``Settings`` with the scale's values where it has such fields, then this name's, then the overrides."""
        cls = self.load().Settings
        own = {f.name for f in fields(cls)}
        scaled = {k: v for k, v in asdict(scale).items() if k in own} if scale else {}
        return build(cls, {**scaled, **dict(self.defaults), **overrides})


def _wrong(kind: str, module: ModuleType) -> str:
    """What is not as the contract says, "" where all that can be seen at once is."""
    if kind != "file" and not (isinstance(module.Settings, type) and is_dataclass(module.Settings)):
        return "Settings is not a dataclass (@dataclass(frozen=True) stands above it)"
    if kind == "method":
        bases = getattr(module.Method, "__mro__", ())
        if not any((base.__module__, base.__name__) == ("mdebench.methods.contract", "Method") for base in bases):
            return "Method is not a subclass of mdebench.methods.Method"
    if kind == "protocol":
        if not isinstance(module.VERSION, int) or isinstance(module.VERSION, bool):
            return f"VERSION is {module.VERSION!r}, not a whole number"
        if module.NEEDS not in NEEDS:
            return f"NEEDS is {module.NEEDS!r}, not {' or '.join(map(repr, NEEDS))}"
    return ""


# What a file must define; of one that may be either nothing is asked.
_NEEDED = {"method": ("Method", "Settings"), "protocol": ("VERSION", "NEEDS", "Settings", "evaluate"), "file": ()}
# What a protocol may leave out, and what it then is.
_LEFT_OUT: dict[str, Callable[[ModuleType], Any]] = {
    "FEATURES": lambda module: module.NEEDS == "encode",
    "requires": lambda module: lambda pack: None,
    "cases": lambda module: lambda settings: [settings],
    "cost": lambda module: None,
}


def _files(folder: str) -> list[str]:
    import pkgutil  # not on the way to --help

    package = importlib.import_module(f"mdebench.{folder}")
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))


@cache
def own_methods() -> dict[str, Code]:
    """The suite's own methods by name: the MDE's variants, then each file of ``baselines/``."""
    entries = {
        name: Code("method", name, "mdebench.methods.mde", defaults=tuple(fixed.items()))
        for name, fixed in VARIANTS.items()
    }
    return entries | {name: Code("method", name, f"mdebench.baselines.{name}") for name in _files("baselines")}


@cache
def own_protocols() -> dict[str, Code]:
    """The suite's own protocols by name, a file of ``protocols/`` each."""
    return {name: Code("protocol", name, f"mdebench.protocols.{name}") for name in _files("protocols")}


@cache
def methods() -> dict[str, Code]:
    """Every method by name: the suite's own, then those of installed distributions."""
    known = own_methods()
    return known | {
        name: Code("method", name, module, place) for name, module, place in _offered("mdebench.methods", known)
    }


@cache
def protocols() -> dict[str, Code]:
    """Every protocol by name: the suite's own, then those of installed distributions."""
    known = own_protocols()
    return known | {
        name: Code("protocol", name, module, place) for name, module, place in _offered("mdebench.protocols", known)
    }


def method(word: str) -> Code:
    """The method of that name, short name or path; UserError with a suggestion when there is none.

    "timm:resnet18" is the method ``timm`` with its first setting at "resnet18".
    """
    if is_path(word):
        place = _place(word, "method", own_methods())
        return Code("method", Path(place).stem, "", place)
    family, colon, argument = word.partition(":")
    name = ALIASES.get(family, family)
    entry = own_methods().get(name) or choose(name, methods(), "method")
    if not colon:
        return entry
    first = fields(entry.load().Settings)[0].name
    return Code("method", word, entry.module, entry.place, (*entry.defaults, (first, argument)))


def method_at(name: str, place: str) -> Code:
    """The method of a run, by the name and place that its record tells; Absent when it is not there (any more)."""
    try:
        return method(place if place.endswith(".py") else name)
    except UserError as error:
        raise Absent(f"its method {name!r}{f' came from {place} and' if place else ''} is not here: {error}") from error


def find_protocol(word: str) -> Code:
    """The protocol of that name or path; UserError with a suggestion when there is none."""
    if is_path(word):
        place = _place(word, "protocol", own_protocols())
        return Code("protocol", Path(place).stem, "", place)
    return own_protocols().get(word) or choose(word, protocols(), "protocol")


def protocol(word: str) -> ModuleType:
    """Import the protocol of that name or path."""
    return find_protocol(word).load()


def either(word: str) -> Code:
    """The method or protocol of that name or path, whichever it is; UserError with a suggestion when it is neither."""
    if is_path(word):
        place = _place(word, "method or protocol", {**own_methods(), **own_protocols()})
        module = Code("file", Path(place).stem, "", place).load()
        return method(word) if hasattr(module, "Method") else find_protocol(word)
    if word in protocols():
        return protocols()[word]
    family = word.partition(":")[0]
    if ALIASES.get(family, family) in methods():
        return method(word)
    return choose(word, {**methods(), **protocols()}, "method or protocol")


def is_path(word: str) -> bool:
    """Whether a word names a file rather than something known."""
    return word.endswith(".py") or "/" in word


def _place(word: str, kind: str, known: Mapping[str, Code]) -> str:
    """The absolute path of somebody's file; UserError when there is none, or its name cannot be told from our own."""
    path = Path(word).expanduser().absolute()
    if not path.exists():
        near = f" Did you mean {word}.py?" if path.with_name(f"{path.name}.py").is_file() else ""
        raise UserError(f"there is no file {word} with a {kind}; name one that ends in .py.{near}")
    if not path.is_file() or path.suffix != ".py":
        what = "is a folder" if path.is_dir() else "does not end in .py"
        raise UserError(f"{word} {what}: a {kind} is one file of Python, whose name ends in .py")
    if not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise UserError(
            f"{word}: a {kind}'s file name is its name in rows and folders; use letters, digits and _ alone"
        )
    if path.stem in known:
        raise UserError(f"{word}: {path.stem} is the name of the suite's own {kind}; give the file another name")
    return str(path)


def _offered(group: str, known: Mapping[str, Code]) -> list[tuple[str, str, str]]:
    """Name, module and distribution of every entry point of a group; of equal names all but one with the latter's."""
    from importlib.metadata import entry_points  # slow to import

    found = list[tuple[str, str, str]]()
    taken = set(known)
    for point in sorted(
        entry_points(group=group), key=lambda point: (point.dist.name if point.dist else "", point.name)
    ):
        owner = point.dist.name if point.dist else "unknown"
        name = point.name if point.name not in taken else f"{owner}.{point.name}"
        taken.add(name)
        found.append((name, point.value, f"{owner} {point.dist.version}" if point.dist else owner))
    return found


def _import_foreign(code: Code) -> ModuleType:
    try:
        return importlib.import_module(code.module)
    except (Exception, SystemExit) as error:
        raise UserError(f"{code.module} of {code.place} cannot be imported: {told(error)}") from error


def _import_file(path: Path) -> ModuleType:
    """The module in a file, imported once for its content; files beside it can be imported by it."""
    import importlib.util  # not on the way to --help

    name = f"mdebench_file_{path.stem}_{_hash(str(path).encode() + path.read_bytes())[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{path} cannot be imported: {told(error, path)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def told(error: BaseException, path: Path | None = None) -> str:
    """An error in a sentence, with the line of the file that it happened in."""
    line, trace = getattr(error, "lineno", None), error.__traceback__
    while trace and path:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(path) else line
        trace = trace.tb_next
    text = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    return text + (f" (line {line})" if line else "")


def _hash(data: bytes) -> str:
    import hashlib  # not on the way to --help

    return hashlib.sha256(data).hexdigest()
