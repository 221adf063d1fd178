"""The local copy of a folder in a store: what its readers find at any moment, and what an outage does to the work."""

import os
import pathlib
import time

import pytest

from fer import storage
from fer.errors import RunInUseError, Stopped, StoreUnavailableError, UserError
from fer.io import files, mirror


@pytest.fixture
def url(tmp_path, monkeypatch):
    """Returns the URL of an empty folder, whose uploads are repeated at once."""
    monkeypatch.setattr(mirror, "MIN_PAUSE_S", 0.01)
    monkeypatch.setattr(mirror, "MAX_PAUSE_S", 0.02)
    return f"memory://{tmp_path.name}/run"


def open_mirror(url: str, timeout: float = 30.0, reports: list[str] | None = None):
    """Opens a mirror that uploads the file last.json last and downloads all but the folder events."""
    return mirror.open_mirror(
        url,
        rank=lambda name: int(name == "last.json"),
        wanted=lambda name: not name.startswith("events/"),
        timeout=timeout,
        report=(reports if reports is not None else []).append,
    )


def write(folder: str, **contents: str) -> None:
    for name, content in contents.items():
        files.write_text(os.path.join(folder, name.replace("_json", ".json")), content)


def read_all(url: str) -> dict[str, str]:
    return {name: files.read_bytes(f"{url}/{name}", "").decode() for name in storage.walk_files(url)}


def wait_until(reached) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Outage:
    """Makes uploads fail while `away`; counts the attempts and records the names that were uploaded."""

    def __init__(self, monkeypatch):
        self.away, self.attempts, self.names = True, 0, []
        upload = storage.upload

        def upload_if_there(source: str, path: str) -> None:
            self.attempts += 1
            if self.away:
                raise StoreUnavailableError("The store is away.")
            upload(source, path)
            self.names.append(path.rpartition("/")[2])

        monkeypatch.setattr(storage, "upload", upload_if_there)


def test_mirror_uploads_changes_in_the_background(url):
    with open_mirror(url) as copy:
        write(copy.folder, a="1", last_json="a")
        copy.upload()
        wait_until(lambda: storage.exists(f"{url}/last.json"))
        assert read_all(url) == {"a": "1", "last.json": "a"}
        write(copy.folder, b="2", last_json="b")
        os.remove(os.path.join(copy.folder, "a"))
    assert read_all(url) == {"b": "2", "last.json": "b"}


def test_mirror_uploads_only_changed_files_in_the_order_of_rank(url, monkeypatch):
    outage = Outage(monkeypatch)
    outage.away = False
    with open_mirror(url) as copy:
        write(copy.folder, last_json="1", z="1", same="1")
    write_again = ["same", "z", "last.json"]
    assert outage.names == write_again
    with open_mirror(url) as copy:
        write(copy.folder, last_json="2", z="2")
    assert outage.names == [*write_again, "z", "last.json"]


def test_mirror_downloads_wanted_files_and_leaves_others(url):
    for name in ("a", "sub/b", "events/1"):
        storage.write_bytes(f"{url}/{name}", name.encode())
    storage.write_bytes(f"{url}-2/c", b"of another folder")
    with open_mirror(url) as copy:
        assert files.list_files(copy.folder) == ["a", "sub/b"]
        assert pathlib.Path(copy.folder, "sub/b").read_text() == "sub/b"
        folder = copy.folder
    assert not os.path.exists(folder)
    assert read_all(url) == {"a": "a", "sub/b": "sub/b", "events/1": "events/1"}


def test_mirror_records_state_of_the_request(url, monkeypatch):
    """What is written after the request belongs to the next state, although the upload begins later."""
    outage = Outage(monkeypatch)
    with open_mirror(url) as copy:
        write(copy.folder, a="1", last_json="1")
        copy.upload()
        wait_until(lambda: outage.attempts)
        write(copy.folder, a="2", last_json="2")
        outage.away = False
        wait_until(lambda: storage.exists(f"{url}/last.json"))
        assert read_all(url) == {"a": "1", "last.json": "1"}
    assert read_all(url) == {"a": "2", "last.json": "2"}


def test_mirror_goes_on_during_outage_and_reports_its_ends(url, monkeypatch):
    outage, reports = Outage(monkeypatch), []
    with open_mirror(url, reports=reports) as copy:
        for number in range(3):
            write(copy.folder, a=str(number))
            copy.upload()
        wait_until(lambda: outage.attempts > 3)
        assert copy.state() == "uploads fail for 0 s"
        outage.away = False
        wait_until(lambda: not copy.state())
    assert reports == [
        f"Uploads to {url} fail (The store is away). The work goes on, and they are repeated.",
        f"Uploads to {url} succeed again.",
    ]
    assert read_all(url) == {"a": "2"}


def test_mirror_raises_store_unavailable_when_last_state_is_not_stored_in_time(url, monkeypatch):
    Outage(monkeypatch)
    message = r"within 0.1 s \(The store is away\)\. .* run the same command again"
    with pytest.raises(StoreUnavailableError, match=message), open_mirror(url, timeout=0.1) as copy:
        write(copy.folder, a="1")


def test_mirror_stores_last_state_after_stop_and_after_error(url):
    for error in (Stopped("Stopped.", 143), ValueError("other")):
        with pytest.raises(type(error)), open_mirror(url) as copy:  # noqa: PT012  the error follows the write
            write(copy.folder, a=str(error))
            raise error
        assert read_all(url) == {"a": str(error)}


def test_mirror_uploads_nothing_more_after_another_process_took_the_run(url):
    opened = open_mirror(url)
    mirror = opened.__enter__()
    write(mirror.folder, a="1")
    mirror.upload()
    wait_until(lambda: read_all(url) == {"a": "1"})
    write(mirror.folder, a="2", b="2")
    assert not opened.__exit__(RunInUseError, RunInUseError("in use"), None)
    assert read_all(url) == {"a": "1"}


def test_mirror_names_folder_of_store_in_user_error(url):
    with pytest.raises(UserError, match=f"^{url}/a is damaged$"), open_mirror(url) as copy:
        raise UserError(f"{copy.folder}/a is damaged")


def test_mirror_ends_with_error_when_store_cannot_be_read(url, monkeypatch):
    def raise_unavailable(_: str) -> list[str]:
        raise StoreUnavailableError("The store is away.")

    monkeypatch.setattr(storage, "walk_files", raise_unavailable)
    with pytest.raises(StoreUnavailableError), open_mirror(url):
        raise AssertionError("the work must not begin")
