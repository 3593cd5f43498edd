#!/usr/bin/env bash
# torch.export.export takes every parameter of a module into the program, also those that no operation of its graph reads,
# and torch.export.save writes them all: a file "of the encoder" quietly holds decoder and discriminator as well.
# The graph itself is clean: the unused ones are inputs without users, so nothing in a printed graph or in an output tells.
#
# Seen with torch 2.14.1 (CPU), Python 3.11:
#   parameters lifted: 4, read by the graph: 2
#   bytes saved: 4,017,201 for 3,720 bytes of weights that the graph reads
# Where it touches us: `mdebench export RUN --to encoder.pt` takes a copy from which what encoding does not read is
# removed before it is traced (mdebench/evaluation/encoders/export.py); tests/evaluation/test_encoders.py says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import io

import torch
from torch import nn


class Two(nn.Module):
    """An encoder that is used, and a decoder a thousand times its size that is not."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(30, 30), nn.Linear(1000, 1000)

    def forward(self, x):
        return self.encoder(x)


print("torch", torch.__version__)
program = torch.export.export(Two(), (torch.rand(2, 30),))
lifted = program.graph_signature.inputs_to_parameters
used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
read = {name for place, name in lifted.items() if place in used}
file = io.BytesIO()
torch.export.save(program, file)
print(f"parameters lifted: {len(lifted)}, read by the graph: {len(read)}")
print(f"bytes saved: {len(file.getvalue()):,} for {4 * (30 * 30 + 30):,} bytes of weights that the graph reads")
assert len(lifted) == 4 and read == {"encoder.weight", "encoder.bias"}
assert len(file.getvalue()) > 4_000_000
PYTHON
echo "as described"
