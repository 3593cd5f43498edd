"""Count parameters and operations of the suite's own methods at every scale, where their code has changed since."""

import sys

from mdebench import catalog, files
from mdebench.settings import SCALES
from mdebench.suite.inventory import listing

if __name__ == "__main__":
    kept = files.read_json(listing.OWN, "delete it") if listing.OWN.is_file() else {}
    found = {}
    for scale in SCALES:
        for name, entry in catalog.own_methods().items():
            key = f"{name} {scale}"
            if kept.get(key, {}).get("code") == listing.code_hash(entry, scale):
                each = kept[key]
                found[key] = listing.Counted(**{**each, "abilities": tuple(each["abilities"])})
            else:
                sys.stdout.write(f"counting {key}\n")
                found[key] = listing.count(entry, scale)
    listing.write_counts(listing.OWN, found)
