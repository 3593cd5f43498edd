"""Encoders in files for elsewhere: weights (.safetensors), a graph (.onnx), a program (.pt), each with a JSON beside it
that says size, code, preprocessing, run and hash.

The weights are those that encoding needs, decoders and critics are left behind. What is written is read again and held
against the encoder before it stands in its place.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mdebench.errors import UserError
from mdebench.evaluation.encoders.encoder import Encoder, timm_network
from mdebench.evaluation.passes import frozen, placed
from mdebench.files import reading, regular, sealed, unsealed, write_atomically, write_json
from mdebench.methods.contract import Encodes, Method, Stages
from mdebench.settings import suggest
from mdebench.training.recipes import entry_of
from mdebench.training.trainer import build_method
from mdebench.version import __version__

TOLERANCE = 1e-4  # between the file's codes and the encoder's
FORMATS = (".safetensors", ".onnx", ".pt")
RECORD = (  # of run.json: what a loaded encoder is measured and reported with
    *("method", "label", "settings", "scale", "size", "pack", "pack_hash", "seed", "updates", "batch", "precision"),
    *("losses", "perceptual", "told", "weights_hash", "feature_dim", "seconds", "gflop", "source", "crop", "recipe"),
    "family",
)


class Codes(nn.Module):
    """Images in, codes out: what is exported."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [0, 1] → (N, feature_dim)."""
        assert isinstance(self.method, Encodes)
        return self.method.encode(images).float()  # without looking at N, which stays free


class Looks(nn.Module):
    """Images in, maps of the stages out: what else of the weights a file of weights should hold."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, size, size) in [0, 1] → maps."""
        assert isinstance(self.method, Stages)
        return self.method.stages(images)


def export(encoder: Encoder, path: Path) -> Path:
    """Write an encoder to a file of one of FORMATS, and ``<file>.json`` beside it; returns the path.

    UserError for another ending, an encoder that cannot be traced, missing packages, or a file whose codes differ from
    the encoder's by more than TOLERANCE.
    """
    if path.suffix not in FORMATS:
        near = suggest(path.suffix, FORMATS)
        raise UserError(f"{path}: an encoder is exported to one of {', '.join(FORMATS)}.{near}")
    if not isinstance(encoder.method, Encodes):
        raise UserError(f"{encoder.name} has no encoder to export")
    write = {".safetensors": _weights, ".onnx": _graph, ".pt": _program}[path.suffix]
    with TemporaryDirectory() as scratch, torch.no_grad():  # not beside it, where a kill would leave it
        file = Path(scratch) / path.name
        facts = write(encoder, file)
        about = _about(encoder) | facts | {"file": path.name}
        if path.suffix == ".safetensors":  # it tells its record itself, too
            _with_metadata(file, about)
        about["file_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        if off := _difference(encoder, file):
            raise UserError(f"{path} was not written: its codes would differ from the encoder's by {off:.2g}")
        write_atomically(path, file.read_bytes())
    write_json(path.with_name(f"{path.name}.json"), about)
    return path


def _about(encoder: Encoder) -> dict[str, Any]:
    info = encoder.info
    return {
        "mdebench": __version__,
        "run": encoder.name,
        "input": ["N", 3, encoder.size, encoder.size],
        "code": encoder.feature_dim,
        "preprocessing": {
            "crop": info.get("crop", "largest centred square"),
            "size": encoder.size,
            "range": [0, 1],
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
        },
        "record": {key: info[key] for key in RECORD if key in info},
    }


def load_export(path: Path) -> Encoder:
    """The encoder in a .safetensors file of ours; UserError for another file, and one that was changed."""
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    of_others = f"weights of others become a run by `mdebench pretrain timm:NAME --set weights={path}`"
    if path.suffix == ".onnx":
        raise UserError(f"{path} is not loaded here, onnxruntime runs it: export the run to a .safetensors file, too")
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path} is not loaded here: a program that was exported runs by torch.export.load (export the run to a"
            f" .safetensors file, too); {of_others}"
        )
    way_on = "if mdebench exported it, export the run again"
    with reading(path, way_on):
        with regular(path), safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
        if "mdebench" not in told:
            raise UserError(f"{path} is no encoder that mdebench exported; {of_others}")
        about, tensors = unsealed(json.loads(told["mdebench"])), load_file(path)
        if lacking := [key for key in ("encoder_sha256", "record", "run") if key not in about]:
            raise ValueError(f"it does not say {lacking[0]!r}")
        info = about["record"] | {"exported": True}
        if lacking := [key for key in ("method", "settings", "size", "seed") if key not in info]:
            raise ValueError(f"it does not say {lacking[0]!r}")
    if _hash(tensors) != about["encoder_sha256"]:
        raise UserError(f"{path} holds other weights than it says; {way_on}")
    method = build_method(entry_of(info), info["settings"], info["size"], info["seed"], tensors)
    own = method.state_dict()
    if unknown := sorted(
        name for name, tensor in tensors.items() if name not in own or own[name].dtype != tensor.dtype
    ):
        raise UserError(f"{path} does not fit the networks of {info['method']} (it has {unknown[0]}); {way_on}")
    try:
        method.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the networks of {info['method']}; {way_on}") from error
    return Encoder(about["run"], placed(method), info)


# --- the three formats


def _weights(encoder: Encoder, file: Path) -> dict[str, Any]:
    """The tensors that encoding and looking at stages need, by their names in the method."""
    state = encoder.method.state_dict()
    tensors = {name: state[name].detach().cpu().contiguous().clone() for name in sorted(_needed(encoder) & set(state))}
    file.write_bytes(save(tensors))
    return {"encoder_sha256": _hash(tensors), "tensors": len(tensors), "trunk": _trunk_of(encoder)}


def _needed(encoder: Encoder) -> set[str]:
    """The names of the tensors that the graphs of codes and stages read; all, where these cannot be traced."""
    needed: set[str] = set()
    for part in [Codes, Looks] if isinstance(encoder.method, Stages) else [Codes]:
        try:
            program = _traced(encoder, part)
        except UserError:
            return set(encoder.method.state_dict())
        signature = program.graph_signature
        lifted = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}  # all of the method's, used or not
        used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
        needed |= {name.removeprefix("method.") for node, name in lifted.items() if node in used}
    return needed


def _bare(encoder: Encoder) -> Encoder:
    """A copy without the tensors that neither codes nor stages need."""
    method, needed = deepcopy(encoder.method).requires_grad_(False), _needed(encoder)
    for place, module in method.named_modules():
        for tensors in (module._parameters, module._buffers):
            # A convolution without bias has None in its place.
            known = [name for name, tensor in tensors.items() if tensor is not None]
            for name in [name for name in known if f"{place}.{name}".removeprefix(".") not in needed]:
                del tensors[name]
    return Encoder(encoder.name, method, encoder.info)


def _trunk_of(encoder: Encoder) -> str:
    """Whether, and how, the weights are those of a trunk as timm has them."""
    network = timm_network(encoder.method)
    if network is None and not isinstance(encoder.method, Stages):
        return "none: this method shows no maps before its code"
    if network is None:
        return "mdebench.load(…).trunk(): shaped as timm's networks, of this suite's own making"
    prefix = next(name for name, module in encoder.method.named_modules() if module is network)
    called = type(network).__name__
    return f"tensors under {prefix}. have the names of timm's {called}; see mdebench.load(…).trunk()"


def _with_metadata(file: Path, about: Mapping[str, Any]) -> None:
    file.write_bytes(save(load_file(file), metadata={"mdebench": json.dumps(sealed(about))}))


def _program(encoder: Encoder, file: Path) -> dict[str, Any]:
    data = io.BytesIO()  # of a path that does not end in .pt2 torch would complain, and write the same
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parts of tensors that share memory
        torch.export.save(_traced(_bare(encoder), Codes), data)
    file.write_bytes(data.getvalue())
    return {"torch": torch.__version__, "load": "torch.export.load(file).module()"}


def _graph(encoder: Encoder, file: Path) -> dict[str, Any]:
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise UserError(f"an .onnx file needs {', '.join(missing)}: pip install 'mdebench[onnx]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own inner workings
        program = torch.onnx.export(
            _traced(encoder, Codes), (), input_names=["images"], output_names=["codes"], dynamo=True, verbose=False
        )
    assert program is not None
    program.save(file, external_data=False)
    return {"onnx": metadata.version("onnx"), "opset": program.model.opset_imports.get("", 0)}


def _traced(encoder: Encoder, part: Callable[[Method], nn.Module]) -> torch.export.ExportedProgram:
    """The encoder as a graph for any number of images; UserError where it cannot be traced."""
    method = encoder.method
    tensors = (*method.parameters(), *method.buffers())
    images = torch.rand(3, 3, encoder.size, encoder.size, device=tensors[0].device if tensors else "cpu")
    try:
        with frozen(method), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(part(method), (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:
        why = (str(error).splitlines() or [""])[0]
        told = f"{encoder.name} cannot be traced, so it can be exported as .safetensors alone"
        raise UserError(f"{told} ({type(error).__name__}: {why})") from error


def _difference(encoder: Encoder, file: Path) -> float:
    """The largest difference between the file's codes and the encoder's on drawn images, 0 within TOLERANCE."""
    images = torch.rand(5, 3, encoder.size, encoder.size, generator=torch.Generator().manual_seed(0))
    expected = encoder.encode(images)
    if file.suffix == ".safetensors":
        found = load_export(file).encode(images)
    elif file.suffix == ".pt":
        device = next((tensor.device for tensor in encoder.method.parameters()), torch.device("cpu"))
        found = torch.export.load(io.BytesIO(file.read_bytes())).module()(images.to(device)).cpu()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    off = float((found - expected).abs().max())
    return 0.0 if off <= TOLERANCE * max(1.0, float(expected.abs().max())) else off


def _hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
