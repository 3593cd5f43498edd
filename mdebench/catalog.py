"""Finds methods and protocols by file name: ``baselines/glcic.py`` is the method ``glcic`` because it is there.

The six MDE variants are names for settings of ``mdebench.mde``. Listing imports nothing but the file names.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from types import ModuleType
from typing import Any

from mdebench.settings import Scale, build, choose
from mdebench.variants import ALIASES, VARIANTS


def _files(folder: str) -> list[str]:
    package = importlib.import_module(f"mdebench.{folder}")
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_"))


@dataclass(frozen=True)
class Entry:
    """A method's name on the command line, its module (with ``Method`` and ``Settings``), and the settings it fixes."""

    name: str
    module: str
    defaults: Mapping[str, Any]

    def load(self) -> ModuleType:
        """Import the module."""
        return importlib.import_module(self.module)

    def settings(self, scale: Scale | None, overrides: Mapping[str, Any]) -> Any:
        """``Settings`` with the scale's values where it has such fields, then this name's, then the overrides."""
        cls = self.load().Settings
        own = {f.name for f in fields(cls)}
        scaled = {k: v for k, v in asdict(scale).items() if k in own} if scale else {}
        return build(cls, {**scaled, **self.defaults, **overrides})


@cache
def methods() -> dict[str, Entry]:
    """Every method by name: the MDE's variants, then each file of ``baselines/``."""
    entries = {name: Entry(name, "mdebench.methods.mde", fixed) for name, fixed in VARIANTS.items()}
    return entries | {name: Entry(name, f"mdebench.baselines.{name}", {}) for name in _files("baselines")}


def method(name: str) -> Entry:
    """The method called ``name`` (or one of its short names); UserError with a suggestion when there is none.

    "timm:resnet18" is the method ``timm`` with its first setting at "resnet18".
    """
    family, colon, argument = name.partition(":")
    entry = choose(ALIASES.get(family, family), methods(), "method")
    if not colon:
        return entry
    first = fields(entry.load().Settings)[0].name
    return Entry(name, entry.module, {**entry.defaults, first: argument})


@cache
def protocols() -> dict[str, str]:
    """Every protocol's name → module, a file of ``protocols/`` each."""
    return {name: f"mdebench.protocols.{name}" for name in _files("protocols")}


def find_protocol(name: str) -> str:
    """The module of the protocol called ``name``; UserError with a suggestion when there is none."""
    return choose(name, protocols(), "protocol")


def protocol(name: str) -> ModuleType:
    """Import the protocol called ``name``."""
    return importlib.import_module(find_protocol(name))
