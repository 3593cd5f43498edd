"""mdebench: what does learning to complete images teach an encoder, and how do we know?

What a user types in Python is here and in the README: ``load``, ``open_pack``, ``measure``, ``rows``, and what files of
methods and protocols import from ``mdebench.methods`` and ``mdebench.evaluation``. Nothing else is promised. Nothing
here loads torch before it is called.
"""

from collections.abc import Mapping, Sequence
from os import PathLike, environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdebench.errors import UserError
from mdebench.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from mdebench.data.pack import Pack
    from mdebench.evaluation.encoders.encoder import Encoder

__all__ = ["UserError", "__version__", "load", "measure", "open_pack", "rows"]

# In a checkout `baselines/` and `protocols/` lie beside this package; in a wheel, inside it. Either way they
# import as `mdebench.baselines` and `mdebench.protocols`, without claiming those names at the top level.
_here = Path(__file__).resolve().parent
if not (_here / "baselines").is_dir():
    __path__.append(str(_here.parent))


def _home(home: str | PathLike[str] | None) -> str | PathLike[str]:
    """The folder that is meant: as on the command line MDEBENCH_HOME where none is named, else the current one."""
    return environ.get("MDEBENCH_HOME", ".") if home is None else home


def load(run: str | PathLike[str], *, home: str | PathLike[str] | None = None) -> "Encoder":
    """A frozen encoder: of a finished run, by its name in ``home`` or its folder, or in an exported .safetensors file.

    It has ``encode(images)``, ``stages(images)``, ``complete(images, seen)``, ``trunk()``, ``size`` in pixels and
    ``feature_dim``; images are float tensors (N, 3, size, size) in [0, 1]. UserError, with near names, where there is
    none, or where it does not fit.
    """
    from mdebench.evaluation.encoders import loading
    from mdebench.home import Home

    return loading.load(str(run), Home(_home(home)))


def open_pack(pack: str | PathLike[str], *, home: str | PathLike[str] | None = None) -> "Pack":
    """A pack by its name in ``home`` (toyfaces64, like any embedded one, is drawn when it is not there) or its folder.

    UserError where there is none.
    """
    from mdebench.data.finding import find_pack
    from mdebench.data.pack import open_pack as open_folder
    from mdebench.home import Home
    from mdebench.words import new_console

    if not isinstance(pack, str | PathLike):
        raise UserError(f"name a pack, or its folder, not {pack!r}")
    if (Path(pack) / "pack.json").is_file():
        return open_folder(Path(pack))
    return find_pack(Home(_home(home)), str(pack), new_console())


def measure(
    subject: "str | PathLike[str] | nn.Module",
    protocol: str | PathLike[str],
    pack: "Pack | str | PathLike[str]",
    *,
    home: str | PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    stages: Sequence[str] = (),
    name: str | None = None,
    scale: str = "small",
) -> "pd.DataFrame":
    """Measure a subject by a protocol on a pack; returns its rows, which are kept in ``home`` like the command line's.

    ``subject``: a run's name, what ``load`` gave, or any module, of which ``size`` in pixels, ``mean`` and ``std`` of
    red, green and blue (of images in [0, 1]) are its preprocessing, ``stages`` the names of the modules whose maps are
    its stages, ``name`` and ``scale`` where its line stands in the tables. ``protocol``: a name, or the path of a file;
    ``settings`` are the protocol's. What is measured already is not measured again. UserError for a user's mistake.
    """
    from mdebench.evaluation import public

    preprocessing = {"size": size, "mean": mean, "std": std, "stages": stages, "name": name, "scale": scale}
    return public.measure(subject, str(protocol), pack, _home(home), dict(settings or {}), preprocessing)


def rows(home: str | PathLike[str] | None = None) -> "pd.DataFrame":
    """Every row of ``home``, a line each, columns as in ``mdebench.results.rows.Row``; UserError for a damaged one."""
    from mdebench.home import Home
    from mdebench.results.rows import read_rows

    return read_rows(Home(_home(home)))
