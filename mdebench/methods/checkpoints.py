"""Weight files as trainers leave them: find the tensors that a network needs, and say what was done to find them.

A file holds tensors by name in some wrapping: {"model": …}, "module." before every name, a decoder beside the encoder.
Every mapping in it, less every prefix that most of its names share, may be the network's weights; the one that holds
*all* of them is taken, after the network's own library had its way with it (timm renames, and resamples position
embeddings). What was stripped, resampled or left is told; a file that lacks a tensor is refused by name. Nothing is
unpickled but tensors and plain values: a stranger's file runs no code here.
"""

import hashlib
import io
import pickle
import re
import warnings
import zipfile
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mdebench import files
from mdebench.errors import UserError
from mdebench.words import words

Rules = Callable[[dict[str, Tensor]], Mapping[str, Any]]
"""What a library does with the names and shapes of its own checkpoints; it may change the mapping that it is given."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
DEEPEST = 6  # mappings within mappings
SHOWN = 3  # names in a sentence, of those that may be many
# Parts of names that wrappers put in, also in the middle: of DataParallel, torch.compile, FSDP, activation checkpoints.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Of several that fit, what their authors measure: an average over training (EMA, DINO's teacher, I-JEPA's target
# encoder), but not where it serves training alone (MoCo's keys, BYOL's target). Parts of names.
PREFERRED = {"ema", "teacher", "averaged", "swa", "online", "target_encoder"}
AVOIDED = {"student", "momentum", "encoder_k", "target"}
COUNTER = "num_batches_tracked"  # batch-norm counts batches; no code depends on it, and many files lack it


# --- reading


def path_of(text: str) -> Path:
    """The file that a setting names; ~ is the home folder, which no shell puts in after an equals sign."""
    return Path.home() / text[2:] if text.startswith("~/") else Path(text)


def file_hash(path: Path) -> str:
    """The sha256 (hex) of a file; UserError when it cannot be read."""
    try:
        with files.regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({files.said(error)})") from error


@dataclass(frozen=True)
class WeightFile:
    """What a file holds: each mapping of names to tensors, by the keys that lead to it."""

    path: Path
    mappings: dict[str, dict[str, Tensor]]

    def parts(self, least: int) -> Iterator["Part"]:
        """Every mapping as it is, and less each prefix that at least so many of its names share.

        Where wrappers stand in the middle of names, also without them.
        """
        for where, tensors in self.mappings.items():
            bare = {_unwrapped(name): name for name in tensors}
            wrappers = sorted(WRAPPERS & {part for name in tensors for part in name.split(".")})
            for taken, names in ([], {name: name for name in tensors}), (wrappers, bare):
                if len(names) < len(tensors):  # two would have one name
                    continue
                shared = Counter(prefix for name in names for prefix in _prefixes(name))
                for prefix in ("", *(prefix for prefix, count in shared.items() if count >= least)):
                    inner = {name[len(prefix) :]: own for name, own in names.items() if name.startswith(prefix)}
                    yield Part(where, (*(f"{wrapper}." for wrapper in taken), *([prefix] if prefix else [])), inner)


@dataclass(frozen=True)
class Part:
    """Tensors that may be a network's: name without what was ``stripped`` → name in the mapping ``where``."""

    where: str
    stripped: tuple[str, ...]
    names: dict[str, str]

    @property
    def rank(self) -> int:
        """The lower, the rather it is taken of several that fit."""
        pieces = {piece for text in (self.where, *self.stripped) for piece in text.split(".")}
        told = pieces | {word for piece in pieces for word in piece.split("_")}
        return 0 if told & PREFERRED else 2 if told & AVOIDED else 1

    @property
    def told(self) -> str:
        """Where it was found, in words; "" for a file's own tensors under their own names."""
        where = [f'from "{self.where}"'] if self.where else []
        return ", ".join(where + ([f"without {words(map(_quoted, self.stripped))}"] if self.stripped else []))

    def against(self, other: "Part") -> str:
        """What tells it from a rival, in quotes."""
        return _quoted("".join(self.stripped) if self.where == other.where else self.where)

    @property
    def origins(self) -> set[tuple[str, str]]:
        """Its tensors, by mapping and name there."""
        return {(self.where, name) for name in self.names.values()}


def _quoted(text: str) -> str:
    return f'"{text}"'


def _prefixes(name: str) -> list[str]:
    """ "a.b.c" → "a.", "a.b."."""
    return list(accumulate(f"{part}." for part in name.split(".")[:-1]))


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def read(path: Path) -> WeightFile:
    """The tensors of a .safetensors file or of one that torch.save wrote, whatever its ending, in float32.

    UserError, saying what it is instead and what to do, for any other file, a damaged one, and one that holds anything
    but tensors and plain values: that is not opened.
    """
    content = _content(path)
    mappings = {".".join(where): tensors for where, tensors in _mappings(content, ())}
    if not mappings:
        holds = f"it holds {_names(list(map(str, content)))}" if isinstance(content, Mapping) and content else ""
        holds = holds or f"it holds a {type(content).__name__}"
        raise UserError(f"{path} has no tensors under names ({holds}): save a state_dict()")
    return WeightFile(path, mappings)


def _mappings(content: object, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content) or len(where) > DEEPEST:
        return
    tensors = {name: _plain(value) for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield where, tensors
    for key, value in content.items():
        yield from _mappings(value, (*where, key))


def _plain(tensor: Tensor) -> Tensor:
    """Strided, no parameter, and in float32 where it has fractions."""
    tensor = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return tensor.float() if tensor.is_floating_point() else tensor


def _content(path: Path) -> Any:
    try:
        with files.regular(path) as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}" + ("" if path.is_absolute() else f" (in {Path.cwd()})")) from error
    except IsADirectoryError as error:
        inside = sorted(each.name for each in path.iterdir() if each.suffix in SUFFIXES)
        named = f", such as {path / inside[0]}" if inside else ""
        raise UserError(f"{path} is a folder: name the weight file itself{named}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    if other := _other_kind(path, head):
        raise UserError(f"{path} {other}")
    try:
        with warnings.catch_warnings():  # torch muses about odd pickles; the errors below say what matters
            warnings.simplefilter("ignore")
            if _is_safetensors(head):
                return load_file(path)
            if head.startswith(b"PK"):
                _check_members(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values ({_objects(path, str(error))}) and was not loaded, as"
            " such a file can run code: do not trust its source. If you do, write its weights alone to another file,"
            f' in Python: torch.save(torch.load("{path.name}", weights_only=False)["model"], "weights.pth"), with the'
            " key that they have in it; of a whole network save its state_dict()"
        ) from error
    except Exception as error:  # whatever the readers make of a stranger's bytes: there are many kinds
        raise UserError(f"{path} {_DAMAGED}") from error


def _check_members(path: Path) -> None:
    """ValueError where a tensor is not what its checksum says; torch can be told to write none, and puts 0 for them."""
    with zipfile.ZipFile(path) as archive:
        if any(member.CRC for member in archive.infolist()) and (bad := archive.testzip()):
            raise ValueError(bad)


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, then JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 28


def _objects(path: Path, error: str) -> str:
    """The classes and functions that a pickle asks for, as torch tells them without loading it."""
    with suppress(Exception):  # of a file in torch's older format its error alone tells the first of them
        return _names(torch.serialization.get_unsafe_globals_in_checkpoint(path)) or "a pickle of another protocol"
    named = re.search(r"GLOBAL ([\w.]+)", error)
    return named[1] if named else "a pickle of another kind"


_MAGIC = {
    b"\x89HDF": "is an HDF5 file, as Keras writes",
    b"GGUF": "is a GGUF file",
    b"\x93NUMPY": "is a NumPy array",
    b"\x1f\x8b": "is packed by gzip: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"Rar!": "is a RAR archive: unpack it first",
}
_DAMAGED = "is cut short or damaged: copy or download it again"
_WANTED = "weights are read from .safetensors, or from what torch.save wrote"


def _other_kind(path: Path, head: bytes) -> str:
    """What a file is instead of weights, and what to do, by its first bytes; "" where it may be weights."""
    if not head:
        return "is empty: copy or download it again"
    if _is_safetensors(head):  # its first byte may be any
        return ""
    for magic, told in _MAGIC.items():
        if head.startswith(magic):
            return told if "unpack" in told else f"{told}; {_WANTED}"
    if head.startswith(b"PK\x03\x04"):
        return _other_zip(path)
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return f"is an ONNX graph, not weights; {_WANTED}"
    if head[:1] == b"\x80" and head[1:2] >= b"\x03":
        return f"is a pickle, which can run code, and was not opened; {_WANTED}"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer in the place of the weights: git lfs pull fetches them"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it, and name the weight file in it"
    with suppress(UnicodeDecodeError):
        begin = " ".join(getincrementaldecoder("utf-8-sig")().decode(head).split())
        if re.match(r"(?i)<(!doctype|!--|html|head|\?xml)", begin):
            return (
                "is a web page, not weights: its download gave a page in their place (a login, a warning); get it again"
            )
        if begin.isprintable():
            return f"is a text that begins with {begin[:40]!r}, not weights; {_WANTED}"
    return "" if head[:1] == b"\x80" else f"is no weight file; {_WANTED}"  # torch's older format begins so


def _other_zip(path: Path) -> str:
    """torch.save writes a zip archive, too, with a member ``data.pkl`` in a folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return _DAMAGED
    inside = {member.partition("/")[2] for member in members}
    if "constants.pkl" in inside or any(each.startswith("models/") for each in inside):
        return "is a program (TorchScript or torch.export), not weights: save the network's state_dict()"
    if "data.pkl" in inside:
        return ""
    if members and all(member.endswith(".npy") for member in members):
        return f"is a NumPy archive; {_WANTED}"
    return f"is a zip archive of {_names(members)}: unpack it, and name the weight file in it"


# --- fitting


@dataclass
class Fit:
    """How a part of a file fits a network: the tensors ``found``, and what there is to tell of the others.

    ``classes``: how many the part's classifying layer tells apart, None where it has none. ``resampled`` and ``other``
    are (name, shape or kind in the file, that in the network).
    """

    part: Part
    wanted: int
    found: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other: list[tuple[str, str, str]] = field(default_factory=list)
    resampled: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    converted: int = 0
    left: list[str] = field(default_factory=list)
    heads: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    classes: int | None = None
    rivals: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every tensor that codes need was found."""
        return not self.missing and not self.other

    def notes(self, file: WeightFile) -> list[str]:
        """What a user must be told of how the weights were found, in one sentence; none where they lay as they are."""
        told = []
        if self.part.told:
            told.append(f"taken {self.part.told}")
        if self.rivals:
            told.append(f"rather than {words(self.rivals)}, which would fit too")
        if self.converted:
            told.append(f"{self.converted} renamed or converted as timm does with checkpoints of others")
        told += [f"{name} resampled from {a} to {b} as timm does" for name, a, b in self.resampled[:SHOWN]]
        if more := self.resampled[SHOWN:]:
            told.append(f"{len(more)} more resampled")
        if self.heads:
            told.append(f"its classifying layer left, which has another shape ({_shapes(self.heads)})")
        if self.left:
            names = file.mappings[self.part.where]
            why = "left, or converted with others:" if self.converted else "left:"
            told.append(f"{why} {len(self.left)} that the network does not have ({_groups(self.left, names)})")
        return [f"{file.path.name}: {self.wanted} tensors, {'; '.join(told)}"] if told else []

    def why_not(self, network: str) -> str:
        """Why the part is not the network's weights, with names."""
        told = []
        if self.missing:
            told.append(f"{_are(self.missing)} missing ({_names(self.missing)})")
        if self.other:
            shapes = [f"{name} is {theirs}, not {ours}" for name, theirs, ours in self.other]
            told.append(f"{_are(self.other)} of another shape ({_names(shapes)})")
        where = f" ({self.part.told})" if self.part.told else ""
        begin = f"of the {self.wanted} tensors of {network}{where} {' and '.join(told)}"
        return begin + (f"; {_are(self.left)} the file's alone ({_names(self.left)})" if self.left else "")


def fit(file: WeightFile, network: nn.Module, rules: Rules | None, heads: Sequence[str]) -> Fit:
    """The part of a file that fits a network best: of those that hold all of it the first in rank.

    ``rules``: what the network's library does with checkpoints; ``heads``: the names of the classifying layers, which
    may be missing, or tell other classes apart.
    """
    state = network.state_dict()
    needed = sum(not name.endswith(COUNTER) for name in state)
    fits = [_fitted(file, part, state, rules, heads) for part in file.parts(max(1, needed // 2))]
    whole = [each for each in fits if each.whole]
    if not whole:
        return max(fits, key=lambda each: len(each.found))
    best = min(whole, key=lambda each: (each.part.rank, len(each.left), each.converted))
    if bad := [name for name, each in best.found.items() if each.isnan().any()]:  # some layers' bounds are infinite
        raise UserError(f"{file.path} holds values that are no numbers (NaN), in {_names(bad)}: its training failed")
    best.rivals = sorted({each.part.against(best.part) for each in whole if not each.part.origins & best.part.origins})
    return best


def _fitted(
    file: WeightFile, part: Part, state: Mapping[str, Tensor], rules: Rules | None, heads: Sequence[str]
) -> Fit:
    mapping = file.mappings[part.where]
    given = {name: mapping[own] for name, own in part.names.items()}
    made = _by_rules(given, rules)
    heads_of = {name: name.rpartition(".")[0] in heads for name in (*state, *made)}
    fitted = Fit(part, sum(not name.endswith(COUNTER) and not heads_of[name] for name in state))
    for name, tensor in made.items():
        own = state.get(name)
        if heads_of[name] and name.endswith(".weight") and tensor.ndim:
            fitted.classes = len(tensor)
        if own is not None and own.is_floating_point() and not tensor.is_floating_point():
            fitted.other.append((name, str(tensor.dtype), str(own.dtype)))
        elif own is not None and own.shape == tensor.shape:
            fitted.found[name] = tensor
            if name in given and given[name].shape != tensor.shape:
                fitted.resampled.append((name, tuple(given[name].shape), tuple(tensor.shape)))
            fitted.converted += name not in given
        elif heads_of[name]:
            fitted.heads.append((name, tuple(tensor.shape)))
        elif own is not None:
            fitted.other.append((name, str(tuple(tensor.shape)), str(tuple(own.shape))))
    known = {*fitted.found, *(name for name, *_ in fitted.other), *(name for name, _ in fitted.heads)}
    fitted.missing = [name for name in state if name not in known and not heads_of[name] and not name.endswith(COUNTER)]
    places = {tensor.data_ptr() for tensor in fitted.found.values()}  # a renamed tensor is the same one
    used = {part.names[name] for name, tensor in given.items() if name in known or tensor.data_ptr() in places}
    fitted.left = [name for name in mapping if name not in used and not name.endswith(COUNTER)]
    return fitted


def _by_rules(given: dict[str, Tensor], rules: Rules | None) -> dict[str, Tensor]:
    """The tensors as the library's rules make them; as they are where those fail, as they do on other networks'."""
    made: Mapping[str, Any] = given
    if rules is not None:
        with suppress(Exception), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            # Of torch, about how a library interpolates; and timm 1.0.31 prints each bias that its DINOv3 lacks.
            warnings.simplefilter("ignore")
            made = rules(dict(given))
    return {name: value for name, value in made.items() if isinstance(value, Tensor)}


# --- words


def _are(names: Sequence[object]) -> str:
    return f"{len(names)} {'is' if len(names) == 1 else 'are'}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _shapes(named: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    return _names([f"{name} {shape}" for name, shape in named])


def _groups(names: Sequence[str], among: Iterable[str]) -> str:
    """Names by their first part that not all ``among`` which they stand share, with how many there are of each."""
    columns = zip(*(name.split(".")[:-1] for name in among))  # as long as the shortest name
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    counts = Counter(name.split(".")[shared] for name in names)
    return _names([name if count == 1 else f"{name} ×{count}" for name, count in counts.most_common()])
