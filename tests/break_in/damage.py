"""What can happen to a file: damage that is drawn from a generator, by its kind and the file's."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

Draw = np.random.Generator
Harm = Callable[[bytes, Draw], bytes]


def flip_bit(data: bytes, rng: Draw) -> bytes:
    """One bit is another one."""
    place = int(rng.integers(len(data)))
    return data[:place] + bytes([data[place] ^ (1 << int(rng.integers(8)))]) + data[place + 1 :]


def flip_early_bit(data: bytes, rng: Draw) -> bytes:
    """One bit of the first 128 bytes, where headers are."""
    return flip_bit(data[:128], rng) + data[128:]


def change_bytes(data: bytes, rng: Draw) -> bytes:
    """A few bytes are others."""
    changed = bytearray(data)
    for place in rng.integers(len(data), size=int(rng.integers(1, 9))):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def truncate(data: bytes, rng: Draw) -> bytes:
    """The end is not there."""
    return data[: int(rng.integers(len(data)))]


def truncate_little(data: bytes, rng: Draw) -> bytes:
    """The last few bytes are not there."""
    return data[: -int(rng.integers(1, min(17, len(data) + 1)))]


def zero_block(data: bytes, rng: Draw) -> bytes:
    """A block is zero, as a disk may have it after a power cut."""
    start, length = int(rng.integers(len(data))), int(2 ** rng.integers(1, 13))
    return data[:start] + bytes(len(data[start : start + length])) + data[start + length :]


def swap_blocks(data: bytes, rng: Draw) -> bytes:
    """Two neighbouring blocks have changed places."""
    length = max(1, min(int(2 ** rng.integers(0, 11)), len(data) // 3))
    start = int(rng.integers(max(1, len(data) - 2 * length)))
    first, second = data[start : start + length], data[start + length : start + 2 * length]
    return data[:start] + second + first + data[start + 2 * length :]


def append(data: bytes, rng: Draw) -> bytes:
    """There is more at the end."""
    return data + rng.bytes(int(rng.integers(1, 65)))


def empty(data: bytes, rng: Draw) -> bytes:
    """Nothing is left."""
    return b""


def change_digit(data: bytes, rng: Draw) -> bytes:
    """A digit of a text is another one."""
    places = [match.start() for match in re.finditer(rb"\d", data)]
    if not places:
        return flip_bit(data, rng)
    place = places[int(rng.integers(len(places)))]
    other = (data[place] - 48 + int(rng.integers(1, 10))) % 10 + 48
    return data[:place] + bytes([other]) + data[place + 1 :]


def huge_number(data: bytes, rng: Draw) -> bytes:
    """A number of a text is one that no machine holds, or none at all."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not found:
        return append(data, rng)
    match = found[int(rng.integers(len(found)))]
    numbers = (b"1e999", b"9" * 30, b"-1", b"NaN", b"1e300", b"0", "٣".encode(), b"9" * 5000)
    return data[: match.start()] + numbers[int(rng.integers(len(numbers)))] + data[match.end() :]


def drop_line(data: bytes, rng: Draw) -> bytes:
    """A line is not there."""
    lines = data.splitlines(keepends=True)
    lines.pop(int(rng.integers(len(lines))))
    return b"".join(lines)


def control_character(data: bytes, rng: Draw) -> bytes:
    """A character that no text has."""
    place = int(rng.integers(len(data) + 1))
    return (
        data[:place] + (b"\0", b"\x1b[31m", b"\r", b"\xff\xfe", "\u202e".encode())[int(rng.integers(5))] + data[place:]
    )


def _in_json(change: Callable[[Any, Draw], Any]) -> Harm:
    """Damage of a JSON value, in one line of several if there are."""

    def harm(data: bytes, rng: Draw) -> bytes:
        lines = data.splitlines() if data.count(b"\n{") else [data]
        chosen = int(rng.integers(len(lines)))
        lines[chosen] = json.dumps(change(json.loads(lines[chosen]), rng)).encode()
        return b"\n".join(lines) + b"\n"

    return harm


def _somewhere(value: Any, rng: Draw, change: Callable[[Any, Any, Draw], None]) -> Any:
    """Go down to a dict or list within a value, and change an entry of it."""
    found = []

    def look(each: Any) -> None:
        if isinstance(each, (dict, list)) and each:
            found.append(each)
            for inner in each.values() if isinstance(each, dict) else each[:20]:
                look(inner)

    look(value)
    if not found:
        return None
    # The outermost, of which most is read, as often as all others together.
    within = found[0 if rng.random() < 0.5 else int(rng.integers(len(found)))]
    keys = list(within) if isinstance(within, dict) else range(len(within))
    change(within, keys[int(rng.integers(len(keys)))], rng)
    return value


def _remove(within: Any, key: Any, rng: Draw) -> None:
    del within[key]


def _replace(within: Any, key: Any, rng: Draw) -> None:
    others = (None, [], {}, "", "x", -1, 10**10, 1.5, True, [[]], "../../x", float("nan"), 2**64)
    within[key] = others[int(rng.integers(len(others)))]


remove_key = _in_json(lambda value, rng: _somewhere(value, rng, _remove))
other_type = _in_json(lambda value, rng: _somewhere(value, rng, _replace))


def nest_deeply(data: bytes, rng: Draw) -> bytes:
    """A value is within so many brackets that a recursive reader falls over."""
    depth = int(rng.choice((100, 3000, 100_000)))
    deep = b"[" * depth + b"]" * depth
    place = data.find(b": ")
    return deep if place < 0 or rng.random() < 0.3 else data[: place + 2] + deep + b", " + data[place + 2 :]


ANY: tuple[Harm, ...] = (
    *(flip_bit, flip_bit, flip_early_bit, change_bytes, truncate, truncate_little),
    *(zero_block, swap_blocks, append, empty),
)
TEXT: tuple[Harm, ...] = (change_digit, change_digit, huge_number, drop_line, control_character)
JSON: tuple[Harm, ...] = (*TEXT, remove_key, remove_key, other_type, other_type, nest_deeply)


def harm(data: bytes, suffix: str, rng: Draw) -> tuple[str, bytes]:
    """Damage a file, and say how; what comes back differs from ``data``."""
    kinds = ANY + {".json": JSON, ".jsonl": JSON, ".csv": TEXT, ".txt": TEXT}.get(suffix, ())
    while True:
        chosen = kinds[int(rng.integers(len(kinds)))]
        name = {remove_key: "remove_key", other_type: "other_type"}.get(chosen, chosen.__name__)
        if (changed := chosen(data, rng)) != data:
            return name, changed
