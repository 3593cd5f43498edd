"""Zips are read as zipfile reads them, and whatever is wrong with one is told."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mdebench.data.zips import BadZip, Zip

NOISE = np.random.default_rng(0).bytes(3000)
FILES = {"a.jpg": NOISE, "folder/b.jpg": b"x" * 100_000, "größe/é.jpg": b"", "empty.csv": b"path\n"}
MUCH = 10**9


def written(path: Path, files=FILES, method=zipfile.ZIP_DEFLATED, **options) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            with archive.open(name, "w", **options) as stream:
                stream.write(data)
    return path


def everything(path: Path) -> dict[str, bytes | None]:
    archive = Zip(path)
    return {name: archive.read(place, MUCH) for name, place in archive.members()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("wide", [False, True])  # 64-bit sizes, as of files whose size is not known beforehand
def test_every_member_is_what_was_written(tmp_path, method, wide):
    path = written(tmp_path / "a.zip", method=method, force_zip64=wide)
    assert everything(path) == FILES
    assert [name for name, _ in Zip(path).members()] == zipfile.ZipFile(path).namelist()


def test_a_stream_without_sizes_in_front_is_read(tmp_path):
    class Pipe(io.RawIOBase):  # zipfile then writes each size after its data
        def __init__(self):
            self.parts = []

        def writable(self):
            return True

        def write(self, data):
            self.parts.append(bytes(data))
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    (tmp_path / "a.zip").write_bytes(b"".join(pipe.parts))
    assert everything(tmp_path / "a.zip") == FILES


def test_folders_comments_old_names_and_what_lies_before_the_archive(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("folder")
        archive.writestr("folder/b.jpg", NOISE)
        entry = zipfile.ZipInfo("c.jpg")
        entry.comment, entry.extra = b"of a member", struct.pack("<2H4s", 0x7075, 4, b"more")
        archive.writestr(entry, b"c")
        archive.comment = b"the whole" * 7000
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    assert everything(path) == {"folder/b.jpg": NOISE, "c.jpg": b"c"}

    data = written(path, {"??.jpg": b"1"}).read_bytes().replace(b"??.jpg", b"\x81\x82.jpg")  # no UTF-8: code page 437
    path.write_bytes(data)
    assert everything(path) == {"üé.jpg": b"1"} == dict.fromkeys(zipfile.ZipFile(path).namelist(), b"1")


def test_more_members_than_sixteen_bits_count(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(66_000):
            archive.writestr(f"{number}", b"")
        archive.writestr("last", NOISE)
    found = Zip(tmp_path / "a.zip")
    members = dict(found.members())
    assert len(members) == 66_001 and found.read(members["last"], MUCH) == NOISE


def test_offsets_of_64_bits_are_found_in_the_extra_field(tmp_path):
    path = written(tmp_path / "a.zip", {"a": NOISE}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\1\2")
    struct.pack_into("<2L", data, entry + 20, 2**32 - 1, 2**32 - 1)  # packed and unpacked size
    struct.pack_into("<H", data, entry + 30, 32)  # bytes of the extra field
    struct.pack_into("<L", data, entry + 42, 2**32 - 1)  # where it begins
    extra = struct.pack("<2H4s2H3Q", 7, 4, b"what", 1, 24, len(NOISE), len(NOISE), 0)[:40]
    struct.pack_into("<H", data, entry + 30, len(extra))
    data[entry + 47 : entry + 47] = extra  # after the name, which has one letter
    end = data.index(b"PK\5\6")
    struct.pack_into("<L", data, end + 12, end - entry)
    path.write_bytes(data)
    assert zipfile.ZipFile(path).read("a") == NOISE
    assert everything(path) == {"a": NOISE}
    struct.pack_into("<Q", data, entry + 47 + 8 + 4 + 16, 2**64 - 1)
    path.write_bytes(data)
    with pytest.raises(BadZip, match="ends too early"):
        everything(path)


def test_a_member_that_is_too_large_is_not_read(tmp_path):
    path = written(tmp_path / "a.zip")
    places = dict(Zip(path).members())
    assert Zip(path).read(places["folder/b.jpg"], 99_999) is None
    assert Zip(path).read(places["folder/b.jpg"], 100_000) == FILES["folder/b.jpg"]


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path):
    path = written(tmp_path / "a.zip", {"a": bytes(10_000_000)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, 10)
    path.write_bytes(data)
    with pytest.raises(BadZip, match="checksum"):
        everything(path)


def test_encrypted_damaged_and_otherwise_packed_members_are_refused(tmp_path):
    path = written(tmp_path / "a.zip", {"a": NOISE}, zipfile.ZIP_STORED)
    whole = path.read_bytes()
    entry = whole.index(b"PK\1\2")
    for place, value, what in [(8, 1, "encrypted"), (10, 9, "method 9"), (16, 0, "checksum"), (10, 8, "unpacked")]:
        data = bytearray(whole)
        struct.pack_into("<H", data, entry + place, value)
        path.write_bytes(data)
        with pytest.raises(BadZip, match=what):
            everything(path)
    path.write_bytes(b"XX" + whole[2:])
    with pytest.raises(BadZip, match="damaged"):
        everything(path)


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    whole = written(tmp_path / "a.zip", {"a": b"12345", "b": b"67890"}).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.zip").write_bytes(whole[:length])
        with pytest.raises(BadZip):
            everything(tmp_path / "cut.zip")
        (tmp_path / "cut.zip").write_bytes(whole[-length:] if length else b"")
        with pytest.raises(BadZip):
            everything(tmp_path / "cut.zip")


def test_any_changed_byte_is_refused_or_does_no_harm(tmp_path):
    whole = written(tmp_path / "a.zip", {"a": b"12345" * 20, "b": b"67890"}).read_bytes()
    for place in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            data = bytearray(whole)
            data[place] ^= change
            (tmp_path / "b.zip").write_bytes(data)
            try:
                found = everything(tmp_path / "b.zip")
            except BadZip:
                continue
            assert set(found.values()) <= {b"12345" * 20, b"67890", None}


def test_another_process_reads_the_same(tmp_path):
    archive = Zip(written(tmp_path / "a.zip"))
    places = dict(archive.members())
    assert pickle.loads(pickle.dumps(archive)).read(places["a.jpg"], MUCH) == NOISE
