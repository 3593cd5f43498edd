#!/usr/bin/env bash
# joblib carries a copy of loky inside, and both copies register their start method with multiprocessing as "loky": the
# one imported last answers for both. After `import sklearn` (or joblib) the installed loky's own
# `loky.backend.get_context("loky")` gives joblib's context, and locks and queues made by it are of joblib's classes,
# whatever version of loky that copies. Which one it is depends on the order of imports of a process, and a worker that
# has not imported joblib gets another class than its parent. Nothing warns.
#
# Seen with loky 3.7.0, joblib 1.6.0, Python 3.11:
#   before joblib: loky.backend.synchronize
#   after joblib:  joblib.externals.loky.backend.synchronize
#   the class itself, imported: loky.backend.synchronize
# Where it touches us: processes that decode pictures share a lock (mdebench/data/workers.py), which is made from loky's
# class and not by its context; tests/data/test_machine.py imports both and says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check loky==3.7.0 joblib==1.6.0
"$folder/venv/bin/python" - <<'PYTHON'
import loky

made = type(loky.backend.get_context("loky").RLock()).__module__
print("before joblib:", made)
assert made == "loky.backend.synchronize"
import joblib.externals.loky  # noqa: E402, F401

made = type(loky.backend.get_context("loky").RLock()).__module__
print("after joblib:", made)
assert made == "joblib.externals.loky.backend.synchronize", "the name is no longer taken"
from loky.backend.synchronize import RLock  # noqa: E402

print("the class itself:", RLock.__module__)
assert type(RLock()).__module__ == "loky.backend.synchronize"
PYTHON
