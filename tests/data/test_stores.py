"""Archives and folders as they lie around are read to the byte; whatever cannot be read is left out with a reason."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import tracemalloc
import unicodedata
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdebench.data import open_pack, prepare, workers
from mdebench.data.pack import Pack
from mdebench.data.report import KINDS, Report
from mdebench.data.store import MAX_BYTES, BadImage, ImageStore, by_name, is_litter, open_store, read_member, safe_path
from mdebench.errors import UserError

NOISE = np.random.default_rng(0).bytes(3000)
FILES = {"a.jpg": NOISE, "folder/b.jpg": b"x" * 100_000, "größe/é.jpg": b"", "empty.csv": b"path\n"}
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
METHODS += [zipfile.ZIP_ZSTANDARD] if hasattr(zipfile, "ZIP_ZSTANDARD") else []  # from Python 3.14 on


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            with archive.open(name, "w", **options) as stream:
                stream.write(data)
    return path


def taken(store: ImageStore, key: str) -> bytes | tuple[str, str]:
    """The bytes of a member, or why it has none."""
    try:
        return read_member(store.read, store.member(key))
    except BadImage as verdict:
        return str(verdict), verdict.detail


def everything(where: Path, report: Report | None = None) -> dict[str, bytes | tuple[str, str]]:
    store = open_store(where, report or Report())
    return {key: taken(store, key) for key in store.members}


def changed(path: Path, *fields: tuple[int, str, int], name: str = "a.jpg") -> Path:
    """The zip with fields of a member's entry in the directory set anew, and likewise in front of its data."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(name.encode()) - 46
    for offset, layout, value in fields:
        struct.pack_into(layout, data, entry + offset, value)
        if offset < 16:  # flags and method stand two bytes earlier in front of the data
            struct.pack_into(layout, data, struct.unpack_from("<L", data, entry + 42)[0] + offset - 2, value)
    path.write_bytes(data)
    return path


def picture(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (value, 255 - value, 7)).save(stream, "PNG")
    return stream.getvalue()


def greys(pack: Pack) -> list[int]:
    """The values that the pictures were drawn with, in the order of the pack."""
    return [int(image[0, 0, 0]) for image in pack.images]


def packed(root: Path, tmp_path: Path, source: str = "folder", **options: Any) -> Pack:
    packs = tmp_path / "packs"
    number = len(list(packs.iterdir())) if packs.is_dir() else 0
    return open_pack(prepare(source, root, 8, packs, name=f"pack{number}", **options))


def counts(report: Report) -> dict[str, int]:
    return dict(report.counts)


# Zips


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wide", [False, True])  # 64-bit sizes, as of files whose size is not known beforehand
def test_members_are_what_was_written_by_every_method(tmp_path, method, wide):
    path = zipped(tmp_path / "a.zip", FILES, method, force_zip64=wide)
    assert everything(path) == FILES


@pytest.mark.parametrize("method", METHODS)
def test_processes_and_threads_read_any_method(tmp_path, monkeypatch, method):
    names = [f"{number:03d}.png" for number in range(60)]
    files = {name: picture(4 * number) for number, name in enumerate(names)}
    zipped(tmp_path / "root" / "pictures.zip", files, method)
    (tmp_path / "root" / "list.csv").write_text("\n".join(["path", *names]))
    packs = [packed(tmp_path / "root", tmp_path)]
    monkeypatch.setattr(workers, "MANY", 1)
    packs.append(packed(tmp_path / "root", tmp_path))
    assert packs[0].hash == packs[1].hash and greys(packs[0]) == [4 * number for number in range(60)]


def test_threads_share_an_archive(tmp_path):
    files = {f"{number}.jpg": bytes([number]) * 20_000 for number in range(200)}
    store = open_store(zipped(tmp_path / "a.zip", files), Report())
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert dict(zip(files, pool.map(lambda key: taken(store, key), files))) == files


def test_another_process_reads_the_same(tmp_path):
    store = open_store(zipped(tmp_path / "a.zip", FILES), Report())
    read, member = pickle.loads(pickle.dumps((store.read, store.member("a.jpg"))))
    assert read(member) == NOISE
    assert len(pickle.dumps(member)) < 50  # 200,000 of them are handed over


REFUSED = {
    "Deflate64": ([(10, "<H", 9)], ("packed", "method 9, Deflate64")),
    "Implode": ([(10, "<H", 6)], ("packed", "method 6, Implode")),
    "PPMd": ([(10, "<H", 98)], ("packed", "method 98, PPMd")),
    "unheard of": ([(10, "<H", 77)], ("packed", "method 77, which has no name")),
    "encrypted": ([(8, "<H", 1)], ("encrypted", "")),
    "AES": ([(8, "<H", 1), (10, "<H", 99)], ("encrypted", "AES")),
    "checksum": ([(16, "<L", 0)], ("unreadable", "not what its checksum says")),
    "short": ([(24, "<L", 3001)], ("unreadable", "3,000 bytes where the archive says 3,001")),
    "large": ([(24, "<L", MAX_BYTES + 1)], ("too_large", "")),
}


@pytest.mark.parametrize("harm", REFUSED)
def test_a_member_that_cannot_be_read_says_why_and_stops_no_other(tmp_path, harm):
    fields, why = REFUSED[harm]
    path = changed(zipped(tmp_path / "a.zip", {"b.jpg": b"fine", "a.jpg": NOISE}), *fields)
    assert everything(path) == {"b.jpg": b"fine", "a.jpg": why}


def test_the_reason_stands_in_the_report_and_in_the_error(tmp_path):
    zipped(tmp_path / "root" / "pictures.zip", {"b.png": picture(9), "a.jpg": picture(8)})
    changed(tmp_path / "root" / "pictures.zip", (10, "<H", 9))
    (tmp_path / "root" / "list.csv").write_text("path\na.jpg\nb.png\n")
    pack = packed(tmp_path / "root", tmp_path)
    assert pack.names == ["b.png"]
    assert any("packed by a method" in line and "(a.jpg (method 9, Deflate64))" in line for line in pack.summary())
    with pytest.raises(UserError, match=r"a\.jpg \(method 9, Deflate64\)"):
        packed(tmp_path / "root", tmp_path, strict=True)


def test_a_table_that_cannot_be_read_says_why(tmp_path):
    path = zipped(tmp_path / "faces.zip", {"b.png": picture(9), "list.csv": b"path\nb.png\n"})
    changed(path, (8, "<H", 1), name="list.csv")
    with pytest.raises(UserError, match=r"list\.csv cannot be read: encrypted in the archive: unpack it with its pass"):
        packed(path, tmp_path)


@pytest.mark.parametrize("method", METHODS[1:])  # what is stored is as large as it looks
def test_a_bomb_is_never_unpacked_whole(tmp_path, method):
    size = 150_000_000
    path = changed(zipped(tmp_path / "a.zip", {"a.jpg": bytes(size)}, method), (24, "<L", 1000))
    store = open_store(path, Report())
    tracemalloc.start()
    why = taken(store, "a.jpg")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert why == ("unreadable", "not what its checksum says") and peak < 100_000_000
    changed(path, (24, "<L", size))  # and one that is honest about it
    assert everything(path) == {"a.jpg": ("too_large", "")}


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


def test_folders_comments_links_and_what_lies_before_the_archive(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("folder")
        archive.writestr("folder/b.jpg", NOISE)
        archive.writestr("back\\", b"")
        archive.writestr("back\\slash.jpg", b"d")
        entry = zipfile.ZipInfo("c.jpg")
        entry.comment, entry.extra = b"of a member", struct.pack("<2H4s", 0x7075, 4, b"more")
        archive.writestr(entry, b"c")
        link = zipfile.ZipInfo("link.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, b"/etc/passwd")
        archive.comment = b"the whole" * 7000
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    expected = {"folder/b.jpg": NOISE, "back/slash.jpg": b"d", "c.jpg": b"c", "link.jpg": ("not_a_file", "a link")}
    assert everything(path) == expected
    assert everything(path.rename(tmp_path / "selfextracting.exe")) == expected


def test_more_members_than_sixteen_bits_count(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(66_000):
            archive.writestr(f"{number}", b"")
        archive.writestr("last", NOISE)
    store = open_store(tmp_path / "a.zip", Report())
    assert len(store.members) == 66_001 and taken(store, "last") == NOISE


def test_an_archive_cut_anywhere_is_refused_or_gives_nothing_wrong(tmp_path):
    files = {"a": b"12345", "b": b"67890"}
    whole = zipped(tmp_path / "a.zip", files).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.zip").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.zip is not a whole archive"):
            everything(tmp_path / "cut.zip")
        (tmp_path / "tail.zip").write_bytes(whole[-length:] if length else b"")
        try:
            found = everything(tmp_path / "tail.zip")
        except UserError as error:
            assert "not a whole archive" in str(error)
        else:
            assert all(data == files[name] or data[0] == "unreadable" for name, data in found.items())
            assert found != files


def test_any_changed_byte_is_refused_or_does_no_harm(tmp_path):
    whole = zipped(tmp_path / "a.zip", {"a": b"12345" * 20, "b": b"67890"}).read_bytes()
    for place in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            data = bytearray(whole)
            data[place] ^= change
            (tmp_path / f"{place}-{change}.zip").write_bytes(data)
            try:
                found = everything(tmp_path / f"{place}-{change}.zip")
            except UserError:
                continue
            read = {data for data in found.values() if isinstance(data, bytes)}
            assert read <= {b"12345" * 20, b"67890"}
            assert all(data[0] in KINDS for data in found.values() if isinstance(data, tuple))


def test_an_archive_that_changes_is_not_read_on(tmp_path):
    store = open_store(zipped(tmp_path / "a.zip", {"a.jpg": NOISE}), Report())
    handed = pickle.dumps((store.read, store.member("a.jpg")))
    zipped(tmp_path / "a.zip", {"z.jpg": b"", "a.jpg": NOISE})
    read, member = pickle.loads(handed)
    with pytest.raises(BadImage) as verdict:
        read(member)
    assert (str(verdict.value), verdict.value.detail) == ("unreadable", "the archive has changed since it was opened")


# Names


def renamed(path: Path, old: bytes, new: bytes) -> Path:
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def test_names_without_the_utf_8_flag(tmp_path):
    report = Report()
    path = zipped(tmp_path / "a.zip", {"??.jpg": b"1"})
    assert everything(renamed(path, b"??.jpg", "é.jpg".encode()), report) == {"é.jpg": b"1"}
    assert counts(report) == {"guessed_name": 1} and KINDS["guessed_name"][0] == "noted"
    path = zipped(tmp_path / "b.zip", {"??.jpg": b"1"})
    assert everything(renamed(path, b"??.jpg", b"\x81\x82.jpg")) == {"üé.jpg": b"1"}  # no UTF-8: code page 437
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:  # as Info-ZIP writes them
        entry = zipfile.ZipInfo("??.jpg")
        entry.extra = struct.pack("<2HBL", 0x7075, 11, 1, zlib.crc32(b"\xe9\xe8.jpg")) + "ж.jpg"[:3].encode() + b"pg"
        archive.writestr(entry, b"1")
    report = Report()
    assert everything(renamed(tmp_path / "c.zip", b"??.jpg", b"\xe9\xe8.jpg"), report) == {"ж.jpg"[:3] + "pg": b"1"}
    assert not report.counts


ACCENTS = "Ångström-é.png"


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("kind", ["folder", "zip", "unflagged zip", "tar"])
def test_composed_and_decomposed_names_meet(tmp_path, listed, stored, kind):
    name = unicodedata.normalize(stored, ACCENTS)
    root = tmp_path / "root"
    root.mkdir()
    (root / "list.csv").write_text(f"path\n{unicodedata.normalize(listed, ACCENTS)}\n")
    if kind == "folder":
        (root / name).write_bytes(picture(50))
    elif kind == "tar":
        with tarfile.open(root / "pictures.tar", "w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(picture(50))
            archive.addfile(entry, io.BytesIO(picture(50)))
    else:
        zipped(root / "pictures.zip", {name if kind == "zip" else "?" * len(name.encode()): picture(50)})
        renamed(root / "pictures.zip", b"?" * len(name.encode()), name.encode())
    pack = packed(root, tmp_path)
    assert greys(pack) == [50] and pack.names == [unicodedata.normalize("NFC", ACCENTS)]
    assert set(pack.info["report"]) == ({"guessed_name"} if kind == "unflagged zip" else set())


def test_names_that_become_equal_are_duplicates(tmp_path):
    report = Report()
    path = zipped(tmp_path / "a.zip", {unicodedata.normalize(form, "é.jpg"): form.encode() for form in ("NFC", "NFD")})
    assert everything(path, report) == {"é.jpg": b"NFC"} and counts(report) == {"duplicate": 1}
    assert safe_path("a/./e\u0301.jpg") == "a/é.jpg"


# A folder around all of it, and what operating systems put there

LITTER = ("__MACOSX/faces/._a.png", "faces/._a.png", ".DS_Store", "faces/Thumbs.db", "faces/sub/desktop.ini")


@pytest.mark.parametrize("kind", ["zip", "ZIP", "tgz", "TAR", "folder", "zip in a folder"])
@pytest.mark.parametrize("tops", ["", "faces/", "faces/faces/"])
def test_a_folder_packed_whole(tmp_path, kind, tops):
    files = {"labels.CSV": b"path,split\na.png,train\nsub/b.PNG,test\n", "a.png": picture(10), "sub/b.PNG": picture(20)}
    files = {f"{tops}{name}": data for name, data in files.items()} | dict.fromkeys(LITTER, b"\0\5\x16\7")
    root = tmp_path / "root"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    if kind in ("tgz", "TAR"):
        with tarfile.open(tmp_path / f"faces.{kind}", "w:gz" if kind == "tgz" else "w") as archive:
            archive.add(root, "")
        root = tmp_path / f"faces.{kind}"
    elif kind != "folder":
        root = zipped(tmp_path / "zips" / f"faces.{kind[:3]}", files)
        root = root.parent if kind == "zip in a folder" else root
    pack = packed(root, tmp_path)
    assert dict(zip(pack.names, greys(pack))) == {"a.png": 10, "sub/b.PNG": 20}
    assert {kind: entry["count"] for kind, entry in pack.info["report"].items()} == {"litter": len(LITTER)}
    assert packed(root, tmp_path, strict=True).hash == pack.hash


def test_paths_are_found_with_and_without_the_top_folder(tmp_path):
    zipped(tmp_path / "root" / "pictures.zip", {"img/img/a.png": picture(10), "img/b.png": picture(20)})
    for top in ("", "img/"):
        (tmp_path / "root" / "list.csv").write_text(f"path\n{top}img/a.png\n{top}b.png\n")
        pack = packed(tmp_path / "root", tmp_path)
        assert dict(zip(pack.names, greys(pack))) == {f"{top}img/a.png": 10, f"{top}b.png": 20}
        assert pack.info["report"] == {}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"faces.7z": b"7z\xbc\xaf", "list.csv": b"path\na.png\n"}, r"faces\.7z is a 7-Zip archive"),
        ({"faces.rar": b"Rar!\x1a\7", "list.csv": b"path\na.png\n"}, r"faces\.rar is a RAR archive"),
        ({"a.zip": b"", "b.TAR": b"", "list.csv": b"path\n"}, r"holds 2 archives \(a\.zip and b\.TAR\)"),
        ({"a.csv": b"path\n", "b.CSV": b"path\n"}, r"holds 2 CSV files \(a\.csv and b\.CSV\)"),
        ({"a.png": b"", "in/labels.csv": b"path\n"}, r"no CSV file at its top \(there is in/labels\.csv\)"),
        ({"a.png": b"", "._labels.csv": b"path\n"}, r"holds no CSV file; the source folder needs one CSV"),
    ],
)
def test_a_folder_that_is_not_understood_is_told_what_it_holds(tmp_path, files, said):
    for name, data in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        packed(tmp_path / "root", tmp_path)


def test_a_zip_called_otherwise_beside_the_table_is_read(tmp_path):
    zipped(tmp_path / "root" / "faces.rar", {"a.png": picture(10)})
    (tmp_path / "root" / "list.csv").write_text("path\na.png\n")
    assert greys(packed(tmp_path / "root", tmp_path)) == [10]


def test_names_that_are_not_the_utf_8_that_a_zip_announces(tmp_path):
    path = renamed(zipped(tmp_path / "a.zip", {"é.jpg": b"1"}), "é".encode(), b"\xe9\xe9")
    with pytest.raises(UserError, match=r"a\.zip has names that are not in the UTF-8 that it announces: unpack it"):
        open_store(path, Report())


def test_what_litter_is():
    assert all(map(is_litter, LITTER)) and is_litter("a\\Thumbs.db")
    assert not any(map(is_litter, ["a.png", "macosx/a.png", "_a.png", "a._b.png", ".hidden/a.png"]))


# What kind of file an archive is

TELLING = {
    "a.zip": (b"Rar!\x1a\x07\x01\0", "is a RAR archive"),
    "a.rar": (b"Rar!\x1a\x07\0", "is a RAR archive, which cannot be read here: unpack it"),
    "a.7z": (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7-Zip archive, which cannot be read here: unpack it"),
    "labels.csv.gz": (gzip.compress(b"path\na.png\n"), "single file packed by gzip"),
    "cut.tgz": (gzip.compress(bytes(range(256)) * 99)[:60], "not whole: unpack it, or fetch it again"),
    "a.bz2": (bz2.compress(b"path"), "single file packed by bzip2"),
    "a.xz": (lzma.compress(b"path"), "single file packed by xz"),
    "a.tar.zst": (b"\x28\xb5\x2f\xfd\0\0", "packed by Zstandard"),
    "b.zip": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "`git lfs pull`"),
    "c.zip": (b"\n<!DOCTYPE html><title>Quota exceeded", "is a web page"),
    "d.tar": (b"nothing", "is not a whole archive: fetch it again"),
    "e.csv": (b"path\na.png\n", "is neither a folder nor an archive"),
    "empty.zip": (b"", "is not a whole archive"),
}


@pytest.mark.parametrize("name", TELLING)
def test_what_cannot_be_opened_is_named(tmp_path, name):
    data, said = TELLING[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}.* {said}"):
        open_store(tmp_path / name, Report())


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz", ""])
def test_archives_are_known_by_their_content(tmp_path, kind):
    path = tmp_path / "download"  # browsers drop and change endings
    if kind == "zip":
        zipped(path, {"a.jpg": NOISE})
    else:
        with tarfile.open(path, f"w:{kind}") as archive:
            inner = zipped(tmp_path / "inner.zip", {"other.jpg": b""})  # a tar that ends in a zip is a tar
            (tmp_path / "a.jpg").write_bytes(NOISE)
            archive.add(tmp_path / "a.jpg", "a.jpg")
            archive.add(inner, "inner.zip")
    found = everything(path)
    assert found["a.jpg"] == NOISE and len(found) == (1 if kind == "zip" else 2)


def test_members_of_a_tar_say_why_they_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("mdebench.data.store.tars.MAX_BYTES", 1000)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("pipe.jpg", tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        entry = tarfile.TarInfo("big.jpg")
        entry.size = 1001
        archive.addfile(entry, io.BytesIO(bytes(1001)))
    expected = {"link.jpg": ("not_a_file", "a link"), "pipe.jpg": ("not_a_file", "a device")}
    assert everything(tmp_path / "a.tar") == expected | {"big.jpg": ("too_large", "")}


# Folders with links


def test_links_are_followed_within_the_folder_that_was_given(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "real" / "deep", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(folder.name.encode())
    (root / "linked").symlink_to("real")
    (root / "real" / "deep" / "up").symlink_to(root)  # a circle
    (root / "b.jpg").symlink_to("real/deep/a.jpg")
    (root / "out.jpg").symlink_to(elsewhere / "a.jpg")
    (root / "outer").symlink_to(elsewhere)
    (root / "nothing.jpg").symlink_to("gone.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(root / "pipe.jpg")
    report = Report()
    found = everything(root, report)
    assert {key: data for key, data in found.items() if isinstance(data, bytes)} == {
        "real/deep/a.jpg": b"deep",
        "linked/deep/a.jpg": b"deep",
        "b.jpg": b"deep",
    }
    assert found["out.jpg"] == ("link_outside", f"→ {elsewhere / 'a.jpg'}")
    assert found["nothing.jpg"][0] == found["self.jpg"][0] == "link_to_nothing"
    assert found["pipe.jpg"] == ("not_a_file", "a device or pipe")
    assert report.names["link_outside"] == [f"outer → {elsewhere}"]
    assert counts(report) == {"link_outside": 1, "link_circle": 2}
    (tmp_path / "door").symlink_to(root)  # the folder that was given may itself be a link
    assert everything(tmp_path / "door") == found


def test_a_link_that_leads_out_is_told_in_the_pack(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(picture(10))
    root = tmp_path / "root"
    root.mkdir()
    (root / "b.png").write_bytes(picture(20))
    (root / "a.png").symlink_to(tmp_path / "data" / "a.png")
    (root / "more").symlink_to(tmp_path / "data")
    (root / "list.csv").write_text("path\na.png\nb.png\nmore/a.png\n")
    pack = packed(root, tmp_path)
    assert pack.names == ["b.png"]
    assert pack.info["report"]["link_outside"]["count"] == 2 and pack.info["report"]["missing_file"]["count"] == 1
    assert any("leads out of the folder that was given" in line and "more → " in line for line in pack.summary())


def test_a_file_that_may_not_be_read_says_why(tmp_path):
    def refuse(member: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    store = ImageStore(tmp_path, {"a.jpg": "a.jpg"}, refuse)
    assert taken(store, "a.jpg") == ("unreadable", "Permission denied")
    assert BadImage("packed", "method 9").told().endswith("(method 9)")


def test_keys_of_a_list_of_bare_names(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x/y/a.jpg": b"1", "x/b.jpg": b"2"})
    assert set(open_store(path, Report(), by_name).members) == {"a.jpg", "b.jpg"}
