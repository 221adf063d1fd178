"""Reading of files from folders, archives and compressed files."""

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

from fer.convert.readers import archives
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.unsupported_files import SkippedFiles
from fer.errors import UserError
from fer.io import files
from tests.convert import input_factories

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()


def make_tar(files: dict[str, bytes], encoding: str = "utf-8") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding=encoding) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def make_zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def read(path: str) -> dict[str, bytes]:
    return {member.name: b"".join(member.chunks()) for member in archives.iter_members(path, HashingReader())}


PACKED = {
    "plain": (CONTENT, "faces"),
    "gz": (gzip.compress(CONTENT), "faces"),
    "xz": (lzma.compress(CONTENT), "faces"),
    "bz2": (bz2.compress(CONTENT), "faces"),
    "tar": (make_tar({"a/f.csv": CONTENT}), "faces:a/f.csv"),
    "tar.gz": (gzip.compress(make_tar({"a/f.csv": CONTENT})), "faces:a/f.csv"),
    "tar.xz": (lzma.compress(make_tar({"a/f.csv": CONTENT})), "faces:a/f.csv"),
    "zip": (make_zip({"a/f.csv": CONTENT}), "faces:a/f.csv"),
    "gz in zip": (make_zip({"f.csv.gz": gzip.compress(CONTENT)}), "faces:f.csv.gz"),
    "tar.gz in zip": (make_zip({"f.tgz": gzip.compress(make_tar({"f.csv": CONTENT}))}), "faces:f.tgz:f.csv"),
}


@pytest.mark.parametrize("kind", PACKED)
def test_archives_find_file_in_every_packing(kind, tmp_path):
    packed, name = PACKED[kind]
    assert read(input_factories.write_file(tmp_path / "faces", packed)) == {name: CONTENT}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", [kind for kind in PACKED if kind != "plain"])
def test_archives_error_names_truncated_archive(kind, share, tmp_path):
    packed, _ = PACKED[kind]
    path = input_factories.write_file(tmp_path / "faces", packed[: int(share * len(packed))])
    with pytest.raises(UserError, match=r"faces.* is truncated, damaged or unreadable"):
        read(path)


def test_tar_truncated_or_damaged_at_any_header_raises_user_error(tmp_path):
    whole = make_tar({f"{number}.csv": CONTENT[:700] for number in range(5)})
    member, blocks = 3 * 512, 5 * 3  # a header and two blocks of content each, then the end marker
    assert len(read(input_factories.write_file(tmp_path / "whole", whole))) == 5
    cut = [whole[: 512 * count] for count in range(1, blocks + 1)]
    cut += [whole[: member * number + 100] for number in range(1, 5)]
    changed = [bytearray(whole) for _ in range(1, 5)]
    for number, content in enumerate(changed, 1):
        content[member * number + 148] ^= 1  # in the header's checksum
    for content in (*cut, *changed):
        with pytest.raises(UserError, match=r"faces.* is truncated, damaged or unreadable"):
            read(input_factories.write_file(tmp_path / "faces", bytes(content)))


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", "tar.gz", "tar.xz", "zip"])
def test_archives_error_names_file_with_flipped_bit(kind, tmp_path):
    packed = bytearray(PACKED[kind][0])
    packed[len(packed) // 2] ^= 1
    path = input_factories.write_file(tmp_path / "faces", bytes(packed))
    with pytest.raises(UserError, match=r"faces.* is truncated, damaged or unreadable"):
        read(path)


def test_tar_gz_with_wrong_checksum_at_end_raises_user_error(tmp_path):
    """The tar itself ends before the checksum and would be complete without it."""
    packed = bytearray(PACKED["tar.gz"][0])
    packed[-6] ^= 1
    with pytest.raises(UserError, match=r"faces is truncated, damaged or unreadable"):
        read(input_factories.write_file(tmp_path / "faces", bytes(packed)))


@pytest.mark.parametrize("header", [{"GNU.sparse.map": "a,b", "GNU.sparse.size": "9"}, {"GNU.sparse.size": "zz"}])
def test_tar_with_invalid_sparse_map_raises_user_error(header, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("f.csv")
        entry.pax_headers, entry.size = header, 9
        archive.addfile(entry, io.BytesIO(b"123456789"))
    with pytest.raises(UserError, match=r"faces is truncated, damaged or unreadable"):
        read(input_factories.write_file(tmp_path / "faces", out.getvalue()))


ZIP_FAULTS = {  # offset in an entry of the directory, and the bytes written there
    "a later version": (6, b"\xf0\x00"),
    "strong encryption": (8, b"\x40\x00"),
    "an unknown compression": (10, b"\x63\x00"),
    "a name that is not UTF-8": (8, b"\x00\x08"),
}


@pytest.mark.parametrize("fault", ZIP_FAULTS)
def test_zip_with_unsupported_feature_raises_user_error(fault, tmp_path):
    packed = bytearray(make_zip({"XXXX.csv": CONTENT}).replace(b"XXXX", b"f\xc3(x"))
    offset, value = ZIP_FAULTS[fault]
    offset += packed.rindex(b"PK\x01\x02")
    packed[offset : offset + 2] = value
    path = input_factories.write_file(tmp_path / "faces", bytes(packed))
    with pytest.raises(UserError, match=r"faces is truncated, damaged or unreadable"):
        read(path)


def test_archives_list_files_of_folder_by_name(tmp_path):
    for name in ("b/2", "b/1", "a/9", "c"):
        input_factories.write_file(tmp_path / "faces" / name, name)
    assert list(read(str(tmp_path / "faces")).values()) == [b"c", b"a/9", b"b/1", b"b/2"]


def test_archives_list_files_of_zip_by_name(tmp_path):
    path = input_factories.write_file(tmp_path / "faces", make_zip({"b": b"2", "a": b"1"}))
    assert list(read(path)) == ["faces:a", "faces:b"]


def test_archives_error_names_missing_path(tmp_path):
    with pytest.raises(UserError, match=r"There is no .*/nothing"):
        read(str(tmp_path / "nothing"))


def test_archives_reject_zip_in_tar(tmp_path):
    path = input_factories.write_file(tmp_path / "faces", make_tar({"f.zip": make_zip({"a": b"1"})}))
    with pytest.raises(UserError, match=r"faces:f.zip is a zip inside another archive"):
        read(path)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE], ids=["hard", "symbolic"])
def test_archives_reject_link_in_tar(kind, tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("angry/1.png"))
        link = tarfile.TarInfo("angry/2.png")
        link.type, link.linkname = kind, "angry/1.png"
        archive.addfile(link)
    path = input_factories.write_file(tmp_path / "faces", out.getvalue())
    with pytest.raises(UserError, match=r"^faces:angry/2.png is a link .*: unpack the archive and name the folder"):
        read(path)


def test_archives_escape_name_in_tar_that_is_not_utf8(tmp_path):
    [name] = read(input_factories.write_file(tmp_path / "faces", make_tar({"café.csv": CONTENT}, encoding="latin-1")))
    assert name == "faces:caf\\xe9.csv"
    name.encode()


@pytest.mark.parametrize("broken", [b"caf\xe9.png", b"caf\xe9/1.png"], ids=["file", "folder"])
def test_archives_error_names_file_of_folder_that_is_not_utf8(broken, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"faces", broken)
    os.makedirs(os.path.dirname(path))
    open(path, "wb").close()
    for function in (read, archives.total_bytes):
        with pytest.raises(UserError, match=r"faces holds the name caf\\xe9.*: rename it"):
            function(str(tmp_path / "faces"))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere", "is a link to nowhere, which does not exist: remove"),
        ("link.png", "is a link that leads back to itself, by link.png: remove it"),
    ],
    ids=["nowhere", "to itself"],
)
def test_archives_error_names_broken_link_and_target(target, reason, tmp_path):
    input_factories.write_file(tmp_path / "faces" / "a" / "1.png", b"1")
    (tmp_path / "faces" / "a" / "link.png").symlink_to(target)
    for function in (read, archives.total_bytes):
        with pytest.raises(UserError, match=rf"faces/a/link.png {reason}"):
            function(str(tmp_path / "faces"))
    with pytest.raises(UserError, match=rf"faces/a/link.png {reason}"):
        read(str(tmp_path / "faces" / "a" / "link.png"))


@pytest.mark.parametrize("target", [".", "..", "../..", "../b"], ids=["itself", "parent", "above the input", "mutual"])
def test_archives_error_names_link_to_parent_folder(target, tmp_path):
    for name in ("a", "b"):
        input_factories.write_file(tmp_path / "faces" / name / "1.png", b"1")
    (tmp_path / "faces" / "a" / "link").symlink_to(target)
    (tmp_path / "faces" / "b" / "back").symlink_to("../a")
    for function in (read, archives.total_bytes):
        with pytest.raises(UserError, match=r"faces/.* is a link to a folder that holds it, .*: remove it"):
            function(str(tmp_path / "faces"))


def test_archives_follow_links_to_files_and_folders(tmp_path):
    input_factories.write_file(tmp_path / "disk" / "1.png", b"1")
    (tmp_path / "faces" / "b").mkdir(parents=True)
    (tmp_path / "faces" / "a").symlink_to("../disk")
    (tmp_path / "faces" / "b" / "2.png").symlink_to("../../disk/1.png")
    assert read(str(tmp_path / "faces")) == {"faces/a/1.png": b"1", "faces/b/2.png": b"1"}


HIDDEN_FILES = [".DS_Store", "a/.thumb.png", ".trash/a/1.png", "a/@eaDir/1.png/THUMB.png", "__MACOSX/a/._1.png"]
HIDDEN_FILES += ["a/.ipynb_checkpoints/1.png", "$RECYCLE.BIN/1.png", "#recycle/a/1.png"]


@pytest.mark.parametrize("packed", [None, "zip", "tar"])
def test_archives_skip_and_count_hidden_and_system_files(packed, tmp_path):
    files = {"a/1.png": b"1", **dict.fromkeys(HIDDEN_FILES, b"hidden")}
    if packed:
        path = input_factories.write_file(
            tmp_path / ".cache" / "faces", (make_zip if packed == "zip" else make_tar)(files)
        )
    else:
        for name, content in files.items():
            input_factories.write_file(tmp_path / ".cache" / "faces" / name, content)
        path = str(tmp_path / ".cache" / "faces")
    skipped = SkippedFiles()
    found = [member.path for member in archives.iter_members(path, HashingReader(), skipped)]
    assert found == ["a/1.png"]
    assert skipped.counts() == {"hidden": len(HIDDEN_FILES)}


def test_archives_read_paths_with_leading_dot_folder(tmp_path):
    path = input_factories.write_file(tmp_path / "faces", make_tar({"./a/1.png": b"1"}))
    assert list(read(path)) == ["faces:a/1.png"]


@pytest.mark.parametrize("pack", [make_zip, make_tar], ids=["zip", "tar"])
def test_archives_normalise_empty_parts_of_paths(pack, tmp_path):
    path = input_factories.write_file(tmp_path / "faces", pack({"a/.//1.png": b"1", "/b//./2.png": b"2"}))
    assert list(read(path)) == ["faces:a/1.png", "faces:b/2.png"]


@pytest.mark.parametrize("names", [("a/1.png", "a/1.png"), ("a/1.png", "./a//1.png"), ("a\\1.png", "a/1.png")])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_reject_duplicate_file(names, kind, tmp_path):
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the duplicate name
        if kind == "zip":
            with zipfile.ZipFile(out, "w") as archive:
                for name in names:
                    archive.writestr(name, name)
        else:
            out.write(make_tar({names[0]: b"1"})[: 2 * tarfile.BLOCKSIZE] + make_tar({names[1]: b"2"}))
    with pytest.raises(UserError, match=r"^faces holds a/1.png twice, as an archive that was appended to: "):
        read(input_factories.write_file(tmp_path / "faces", out.getvalue()))


def test_archives_reject_link_in_zip(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("a/1.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "2.png")
    with pytest.raises(UserError, match=r"^faces:a/1.png is a link to another file: unpack the archive and name the"):
        read(input_factories.write_file(tmp_path / "faces", out.getvalue()))


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, b"M", b"Z"])
def test_archives_count_tar_members_that_are_no_files(kind, tmp_path):
    entry = tarfile.TarInfo("a/part.png")
    entry.type = kind
    content = entry.tobuf(tarfile.GNU_FORMAT) + make_tar({"a/1.png": b"1"})
    skipped = SkippedFiles()
    path = input_factories.write_file(tmp_path / "faces", content)
    assert [member.path for member in archives.iter_members(path, HashingReader(), skipped)] == ["a/1.png"]
    assert skipped.counts() == {".png": 1}


def test_archives_find_no_file_in_empty_zip(tmp_path):
    assert read(input_factories.write_file(tmp_path / "faces", make_zip({}))) == {}


def test_archives_size_and_hash_ignore_hidden_files(tmp_path):
    input_factories.write_file(tmp_path / "faces" / "a" / "1.png", b"1")
    path = str(tmp_path / "faces")
    before = archives.total_bytes(path), hash_input(path)
    for name in HIDDEN_FILES:
        input_factories.write_file(tmp_path / "faces" / name, b"hidden")
    assert (archives.total_bytes(path), hash_input(path)) == before


def test_archives_skip_hidden_link_in_tar(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo(".git/1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "a/1.png"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("a/1.png"))
    assert list(read(input_factories.write_file(tmp_path / "faces", out.getvalue()))) == ["faces:a/1.png"]


@pytest.mark.parametrize("pack", ["zip", "tar"])
def test_archives_split_paths_at_backslashes_of_windows(pack, tmp_path):
    files = {"train\\angry\\2.png": b"2", "train\\angry\\": b"", "test\\sad\\1.png": b"1"}
    if pack == "tar":
        del files["train\\angry\\"]
    path = input_factories.write_file(tmp_path / "faces", (make_zip if pack == "zip" else make_tar)(files))
    found = {member.path: b"".join(member.chunks()) for member in archives.iter_members(path, HashingReader())}
    assert found == {"train/angry/2.png": b"2", "test/sad/1.png": b"1"}
    assert list(found) == (sorted(found) if pack == "zip" else ["train/angry/2.png", "test/sad/1.png"])


def test_archives_keep_backslash_in_names_of_linux_zip(tmp_path):
    path = input_factories.write_file(tmp_path / "faces", make_zip({"sad/a\\b.png": b"1"}))
    assert [member.path for member in archives.iter_members(path, HashingReader())] == ["sad/a\\b.png"]


def test_archives_error_names_file_that_disappears_while_hashing(tmp_path, monkeypatch):
    input_factories.write_file(tmp_path / "faces" / "1.png", b"1")
    walk = os.walk

    def walk_and_remove(*arguments, **options):
        found = list(walk(*arguments, **options))
        (tmp_path / "faces" / "1.png").unlink()
        return found

    monkeypatch.setattr(os, "walk", walk_and_remove)
    with pytest.raises(UserError, match=r"faces/1.png is truncated, damaged or unreadable"):
        archives.sha256(str(tmp_path / "faces"), HashingReader())


def hash_input(path: str) -> str:
    return archives.sha256(path, HashingReader())


@pytest.mark.parametrize(
    ("function", "step"),
    [
        *((read, step) for step in ("exists", "isdir", "_walk_store")),
        *((archives.total_bytes, step) for step in ("exists", "isdir", "_walk_store")),
        *((hash_input, step) for step in ("isdir", "_walk_store")),
    ],
)
def test_archives_error_names_input_when_connection_breaks(function, step, tmp_path, monkeypatch):
    def raise_unavailable(*_, **__):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    folder = f"memory://{tmp_path}/faces"
    files.write_bytes(f"{folder}/1.png", b"1")
    function(folder)
    monkeypatch.setattr(archives if step.startswith("_") else files, step, raise_unavailable)
    with pytest.raises(UserError, match=r"/faces is .* unreadable \(Connection reset by peer\)"):
        function(folder)


def test_archives_error_names_folder_that_disappears_while_listing(tmp_path, monkeypatch):
    input_factories.write_file(tmp_path / "faces" / "a" / "1.png", b"1")
    walk = os.walk

    def walk_and_rename(root, **options):
        yield next(found := walk(root, **options))
        os.rename(tmp_path / "faces" / "a", tmp_path / "gone")
        yield from found

    monkeypatch.setattr(os, "walk", walk_and_rename)
    with pytest.raises(UserError, match=r"faces is .* unreadable \(.*faces/a\)"):
        read(str(tmp_path / "faces"))


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a folder"])
def test_archives_reject_pipe_unread(inside, tmp_path):
    pipe = tmp_path / "faces" / "pipe"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"faces/pipe is neither a file nor a folder but a pipe"):
        read(str(pipe.parent if inside else pipe))


def test_archives_hash_of_folder_depends_on_contents_and_names(tmp_path):
    hashes = set()
    for name, content in (("a", "1"), ("a", "2"), ("b", "1")):
        folder = tmp_path / f"{name}{content}"
        input_factories.write_file(folder / name, content)
        hashes.add(archives.sha256(str(folder), HashingReader()))
    assert len(hashes) == 3
