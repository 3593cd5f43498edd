"""mdebench: what does learning to complete images teach an encoder, and how do we know?"""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout `baselines/` and `protocols/` lie beside this package; in a wheel, inside it. Either way they
# import as `mdebench.baselines` and `mdebench.protocols`, without claiming those names at the top level.
_here = Path(__file__).resolve().parent
if not (_here / "baselines").is_dir():
    __path__.append(str(_here.parent))
