"""Archives and files that would exhaust memory or time raise a UserError."""

import concurrent.futures
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile

import pytest

from fer.convert import ingest
from fer.convert.readers import archives, formats, image_folder, image_reader
from fer.convert.readers.hashing_reader import HashingReader
from fer.errors import UserError
from fer.io import decompression_limits
from fer.predict import inputs
from tests.convert import input_factories
from tests.predict import reading

PNG = b"\x89PNG\r\n\x1a\n"


def tar_header(kind: bytes, size: int, name: str = "x") -> bytes:
    """Returns the header of a tar member."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


def pax_header(records: dict[str, str], kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Returns a pax header that extends the next header (or all), and its content."""
    lines = [f" {name}={value}\n".encode() for name, value in records.items()]
    content = b"".join(str(length).encode() + line for line in lines for length in [len(line) + len(str(len(line)))])
    return tar_header(kind, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def make_zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def read(path: str) -> int:
    """Reads every file at a path. Returns their number."""
    return sum(1 for member in archives.iter_members(path, HashingReader()) for _ in [list(member.chunks())])


def read_error(path: str) -> str:
    with pytest.raises(UserError) as raised:
        read(path)
    return str(raised.value)


GNU_SPARSE = tar_header(tarfile.GNUTYPE_SPARSE, 512, "happy/a.png") + bytes(512)
SPARSE = {
    "old GNU": GNU_SPARSE,
    "pax 0.1": pax_header({"GNU.sparse.map": "0,8", "GNU.sparse.size": "4200000000"})
    + tar_header(b"0", 8, "happy/a.png")
    + PNG,
    "pax 1.0": pax_header({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "4200000000"})
    + tar_header(b"0", 520, "happy/a.png")
    + b"1\n0\n8\n".ljust(512, b"\0")
    + PNG,
}


@pytest.mark.parametrize("form", SPARSE)
def test_tar_rejects_sparse_file(form, tmp_path):
    path = input_factories.write_file(tmp_path / "faces.tar", SPARSE[form].ljust(4096, b"\0"))
    assert read_error(path).startswith("faces.tar holds happy/a.png as a sparse file: pack it without --sparse")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_tar_rejects_long_header_unread(kind, tmp_path):
    path = input_factories.write_file(tmp_path / "faces", gzip.compress(tar_header(kind, 5_000_000_000) + bytes(4096)))
    assert read_error(path) == (
        "faces has a header of 5,000,000,000 bytes, more than 65,536: unpack it and name the folder."
    )


def test_tar_rejects_headers_that_add_up(tmp_path):
    headers = [
        pax_header({f"name{number}": "x" * 9000}, tarfile.XGLTYPE) + tar_header(b"0", 0, str(number))
        for number in range(8)
    ]
    assert "faces has headers of more than 65,536 bytes" in read_error(
        input_factories.write_file(tmp_path / "faces", b"".join(headers))
    )


def test_tar_rejects_headers_that_extend_each_other_without_end(tmp_path):
    path = input_factories.write_file(
        tmp_path / "faces", pax_header({"a": "b"}) * 2000 + tar_header(b"0", 0) + bytes(1024)
    )
    assert "faces is truncated, damaged or unreadable (it is nested too deep)" in read_error(path)


def test_tar_rejects_pax_header_that_python_searches_in_quadratic_time(tmp_path):
    path = input_factories.write_file(tmp_path / "faces", tar_header(tarfile.XHDTYPE, 60_000) + b"1" * 60_416)
    assert "(a pax header with more than 255 digits in a row)" in read_error(path)


def test_archives_reject_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    path = input_factories.write_file(
        tmp_path / "faces.tar", b"".join(tar_header(b"0", 0, name) for name in "abc") + bytes(1024)
    )
    assert read_error(path) == "faces.tar holds more than 2 files: unpack it and name the folder."
    path = input_factories.write_file(tmp_path / "faces.zip", make_zip(dict.fromkeys("abc", b"")))
    assert read_error(path) == "faces.zip holds more than 2 files: unpack it and name the folder."


def pack_repeatedly(packers: list) -> bytes:
    content = b"pixels\n"
    for packer in packers:
        content = packer(content)
    return content


def pack_in_zip(content: bytes) -> bytes:
    return make_zip({"inner": content})


@pytest.mark.parametrize("packer", [gzip.compress, lzma.compress, pack_in_zip])
def test_archives_read_five_layers_and_reject_more(packer, tmp_path):
    assert read(input_factories.write_file(tmp_path / "five", pack_repeatedly([packer] * 5))) == 1
    for depth in (6, 60):
        message = read_error(input_factories.write_file(tmp_path / "deep", pack_repeatedly([packer] * depth)))
        assert "has more than 5 layers of compression" in message
        assert message.startswith("deep")


def compress_zeros(packed: bytes = b"", count: int = decompression_limits.MIN_LIMIT_BYTES + 1) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        file.write(packed)
        for start in range(0, count, 1 << 22):
            file.write(bytes(min(1 << 22, count - start)))
    return out.getvalue()


def test_archives_reject_decompression_bombs_at_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(decompression_limits, "MIN_LIMIT_BYTES", 1 << 20)
    monkeypatch.setattr(decompression_limits, "MAX_RATIO", 10)
    bomb = compress_zeros(PNG, 2 << 20)
    message = r"faces\S* has [\d,]+ bytes and unpacks to more than 1,048,576, as decompression bombs do"
    for content in (bomb, gzip.compress(bomb), make_zip({"happy/a.png": PNG + bytes(2 << 20)}), pack_in_zip(bomb)):
        with pytest.raises(UserError, match=message):
            read(input_factories.write_file(tmp_path / "faces", content))
    assert read(input_factories.write_file(tmp_path / "faces", compress_zeros(PNG, (1 << 20) - len(PNG)))) == 1


def test_archives_bound_counts_all_files_together(tmp_path, monkeypatch):
    monkeypatch.setattr(decompression_limits, "MIN_LIMIT_BYTES", 1 << 20)
    path = input_factories.write_file(
        tmp_path / "faces", make_zip({f"{number}.png": bytes(200_000) for number in range(6)})
    )
    assert "faces:5.png has" in read_error(path)


def test_gzip_padded_without_end_raises_user_error(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_IDLE_BYTES", 100_000)
    path = input_factories.write_file(tmp_path / "faces", gzip.compress(b"pixels\n"))
    os.truncate(path, 5_000_000_000)
    assert "faces holds more than 100,000 consecutive bytes that decompress to nothing" in read_error(path)


def test_zip_rejects_large_directory_unread(tmp_path):
    size = 4_000_000_000
    path = tmp_path / "faces"
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(size + 4)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, 4, 0))
    assert "faces has a directory of 4,000,000,000 bytes, more than 134,217,728" in read_error(str(path))


def test_image_folder_rejects_image_of_too_many_bytes_and_stops_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(image_reader, "MAX_BYTES", 1000)
    input_factories.write_file(tmp_path / "train" / "happy" / "a.png", PNG)
    os.truncate(tmp_path / "train" / "happy" / "a.png", 5_000_000_000)
    (piece,) = formats.iter_chunks(str(tmp_path), HashingReader())
    assert formats.num_bytes(piece) == 1001
    (reject,) = image_folder.parse_pictures(piece.pictures).rejects
    assert str(reject).endswith("happy/a.png: it is not a readable picture (it has more than 1,000 bytes)")
    for path in (tmp_path, tmp_path / "train" / "happy" / "a.png"):
        with pytest.raises(UserError, match=r"a\.png is no picture that can be read \(it has more than 1,000 bytes\)"):
            reading.read(str(path), faces="whole")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_inputs_reject_pipe_and_device(kind, tmp_path):
    path = "/dev/zero"
    if kind == "pipe":
        path = str(tmp_path / "pipe")
        os.mkfifo(path)
    with pytest.raises(UserError, match=f"{path} is neither a file nor a folder but a pipe or a device"):
        inputs.expand([path])


def test_bounded_map_takes_few_large_items_ahead(monkeypatch):
    monkeypatch.setattr(ingest, "MAX_PENDING_BYTES", 100)
    started = []

    def items():
        for number in range(10):
            started.append(number)
            yield number

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found = ingest.bounded_map(pool, str, items(), 6, size=lambda _: 60)
        assert next(found) == "0"
        assert started == [0, 1]
        assert [*found] == [str(number) for number in range(1, 10)]
