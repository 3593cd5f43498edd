#!/usr/bin/env bash
# torch.export.load, given the path of a program whose name does not end in .pt2, logs "Unable to load package. f must be a
# buffer or a file ending in .pt2" - and returns the program all the same, which runs and gives the same numbers.
# torch.export.save warns of the ending likewise, and writes the same file. Who trusts the log throws a good file away.
#
# Seen with torch 2.14.1 (CPU), Python 3.11:
#   logged: True; loaded: True; largest difference: 0.0
#   through a buffer, logged: False
# Where it touches us: `.pt` is the ending that `mdebench export` promises, so both saving and checking go through a
# buffer (mdebench/evaluation/encoders/export.py), and the README's users are told `torch.export.load`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import logging

import torch
from torch import nn

said = []
watch = logging.Handler()
watch.emit = lambda record: said.append(record.getMessage())
logging.getLogger("torch.export").addHandler(watch)
network, images = nn.Linear(3, 2).eval(), torch.rand(2, 3)
program = torch.export.export(network, (images,))
torch.export.save(program, "encoder.pt")
said.clear()
loaded = torch.export.load("encoder.pt").module()
off = float((loaded(images) - network(images)).abs().max())
logged = any("Unable to load package" in text for text in said)
print("torch", torch.__version__)
print(f"logged: {logged}; loaded: {loaded is not None}; largest difference: {off}")
said.clear()
with open("encoder.pt", "rb") as file:
    torch.export.load(io.BytesIO(file.read()))
quiet = not any("Unable to load package" in text for text in said)
print(f"through a buffer, logged: {not quiet}")
assert logged and off == 0 and quiet
PYTHON
echo "as described"
