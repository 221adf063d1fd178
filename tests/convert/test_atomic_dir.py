"""An output folder is whole or absent."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib

import pytest

from fer.convert import atomic_dir
from fer.errors import UserError


def fill(folder: str, content: str) -> None:
    splits = {"train": {"shards": [{"file": "a.tfrecord"}]}}
    manifest = {"format_version": 1, "splits": splits, "created_by": "fer 1.0", "name": content}
    for name, text in {"a.tfrecord": content, "manifest.json": json.dumps(manifest)}.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)


def place(output: str, content: str, overwrite: bool = False) -> None:
    with atomic_dir.atomic_directory(output, overwrite) as folder:
        fill(folder, content)


def content(output: str) -> str:
    with open(os.path.join(output, "manifest.json")) as file:
        return json.load(file)["name"]


@pytest.fixture
def output(tmp_path) -> str:
    return str(tmp_path / "above" / "faces")


def test_the_folder_appears_with_all_that_is_in_it_and_nothing_beside(output):
    place(output, "new")
    assert sorted(os.listdir(output)) == ["a.tfrecord", "manifest.json"]
    assert os.listdir(os.path.dirname(output)) == ["faces"]


def test_nothing_is_there_while_it_is_filled(output):
    with atomic_dir.atomic_directory(output, False) as folder:
        fill(folder, "new")
        assert not os.path.exists(output)


def test_after_an_error_nothing_is_left_and_no_folder_that_was_made_for_it(output, tmp_path):
    (tmp_path / "before").mkdir()
    for place in (output, str(tmp_path / "before" / "deep" / "faces")):
        with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(place, False) as folder:
            fill(folder, "new")
            raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["before"]


def test_a_folder_that_was_made_stays_if_somebody_else_uses_it(output):
    with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(output, False):
        pathlib.Path(output).with_name("notes.txt").write_text("precious")
        raise RuntimeError
    assert os.listdir(os.path.dirname(output)) == ["notes.txt"]


def test_what_exists_is_not_overwritten_unasked(output):
    place(output, "old")
    with pytest.raises(UserError, match="exists already"):
        place(output, "new")
    assert content(output) == "old"


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_empty_folder_is_filled_unasked(output, overwrite, linked):
    os.makedirs(output if not linked else os.path.join(os.path.dirname(output), "disk"))
    if linked:
        os.symlink("disk", output)
    place(output, "new", overwrite=overwrite)
    assert content(output) == "new"
    assert os.path.islink(output) == linked
    assert sorted(os.listdir(os.path.dirname(output))) == sorted(["faces", *["disk"] * linked])


def test_empty_folder_stays_where_a_conversion_fails(output):
    os.makedirs(output)
    with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(output, False):
        raise RuntimeError
    assert os.listdir(output) == []


@pytest.mark.parametrize("name", [".", "../faces", "./"])
def test_folder_that_the_command_runs_in_is_refused(name, output, monkeypatch):
    os.makedirs(output)
    monkeypatch.chdir(output)
    with pytest.raises(UserError, match=rf"^{name} is the folder that this command runs in, and would be replaced"):
        place(name, "new", overwrite=True)
    assert os.listdir(output) == []


def test_root_of_a_disk_is_refused():
    with pytest.raises(UserError, match=r"^/proc is the root of a disk, which cannot be replaced: name a folder in it"):
        atomic_dir.check("/proc", overwrite=True)


def test_link_that_leads_back_to_itself_is_refused(tmp_path):
    (tmp_path / "faces").symlink_to("faces")
    with pytest.raises(UserError, match=r"^.*/faces is a link that leads back to itself"):
        place(str(tmp_path / "faces"), "new")


def test_what_exists_is_replaced_when_asked(output):
    place(output, "old")
    place(output, "new", overwrite=True)
    assert content(output) == "new"
    assert os.listdir(os.path.dirname(output)) == ["faces"]


def test_what_exists_stays_until_the_new_is_whole(output):
    place(output, "old")
    with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(output, True) as folder:
        fill(folder, "new")
        assert content(output) == "old"
        raise RuntimeError
    assert content(output) == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_no_conversion_wrote_is_never_replaced(output, kind):
    os.makedirs(os.path.dirname(output) if kind == "file" else output)
    with open(output if kind == "file" else os.path.join(output, "thesis.txt"), "w") as file:
        file.write("precious")
    with pytest.raises(UserError, match="is no conversion"):
        place(output, "new", overwrite=True)
    assert os.path.exists(output)


@pytest.mark.parametrize(
    ("manifest", "fault"),
    [
        ('{"name": "shop", "short_name": "shop", "start_url": "/"}', "was written by something else"),
        ('{"format_version": 1, "splits": {}, "created_by": "shop 2"}', "was written by something else"),
        ('{"format_version": 1, "splits": [], "created_by": "fer 1.0"}', "was written by something else"),
        ('{"splits": {}, "created_by": "fer 1.0"}', "was written by something else"),
        ("[]", "was written by something else"),
        ('{"format_version": 1, "spl', "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("\x80", "is damaged"),
    ],
    ids=["web application", "of another program", "no splits", "no version", "list", "cut", "nested", "binary"],
)
def test_a_folder_whose_manifest_no_conversion_wrote_is_never_replaced(tmp_path, manifest, fault):
    (tmp_path / "manifest.json").write_bytes(manifest.encode("latin-1"))
    with pytest.raises(
        UserError, match=f"is no conversion alone \\(its manifest.json {fault}\\): choose another --output"
    ):
        place(str(tmp_path), "new", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("name", ["thesis.txt", "b.tfrecord", "notes/today.txt"])
def test_a_conversion_beside_which_something_else_lies_is_never_replaced(output, name):
    place(output, "old")
    other = pathlib.Path(output) / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("precious")
    with pytest.raises(UserError, match=rf"no conversion alone \(it also holds {name.partition('/')[0]}\)"):
        place(output, "new", overwrite=True)
    assert (content(output), other.read_text()) == ("old", "precious")


def test_the_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    link, disk = tmp_path / "faces", tmp_path / "disk"
    place(str(disk / "faces-1"), "old")
    link.symlink_to(os.path.join("disk", "faces-1"))
    for again in ("new", "newer"):
        place(str(link), again, overwrite=True)
        assert (content(str(disk / "faces-1")), link.is_symlink()) == (again, True)
    assert sorted(os.listdir(tmp_path)) == ["disk", "faces"]
    assert os.listdir(disk) == ["faces-1"]


def test_a_link_that_leads_nowhere_leads_to_the_folder_then(tmp_path):
    link = tmp_path / "faces"
    link.symlink_to(tmp_path / "disk" / "faces-1")
    place(str(link), "new")
    assert (content(str(tmp_path / "disk" / "faces-1")), link.is_symlink()) == ("new", True)


def test_a_link_is_called_as_the_user_calls_it(tmp_path):
    link = tmp_path / "faces"
    place(str(tmp_path / "disk"), "old")
    link.symlink_to("disk")
    with pytest.raises(UserError, match=f"^{link} exists already"):
        place(str(link), "new")


def test_what_a_killed_run_left_is_swept_away_by_the_next(output):
    for mark in ("partial-00000000", "partial-1111aaaa"):
        left = os.path.join(os.path.dirname(output), f".faces.{mark}")
        os.makedirs(left)
        fill(left, "half")
    place(output, "new")
    assert os.listdir(os.path.dirname(output)) == ["faces"]


def test_a_run_that_still_lives_is_left_alone(output):
    living = os.path.join(os.path.dirname(output), ".faces.partial-00000000")
    os.makedirs(living)
    handle = os.open(living, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    place(output, "new")
    os.close(handle)
    assert sorted(os.listdir(os.path.dirname(output))) == [".faces.partial-00000000", "faces"]


def test_a_folder_that_was_being_replaced_when_its_run_was_killed_gets_its_place_back(output):
    place(output, "old")
    os.rename(output, os.path.join(os.path.dirname(output), ".faces.old-00000000"))
    with pytest.raises(UserError, match="exists already"):
        place(output, "new")
    assert content(output) == "old"


def test_another_output_with_a_like_name_is_not_swept(output):
    other = os.path.join(os.path.dirname(output), ".faces2.partial-00000000")
    os.makedirs(other)
    place(output, "new")
    assert os.path.exists(other)


@pytest.mark.parametrize(
    "name", [".faces.old-archive", ".faces.partial-notes", ".faces.old-0000000", ".faces.old-00000000x"]
)
def test_a_users_folder_with_a_like_name_is_neither_removed_nor_taken(output, name):
    users = os.path.join(os.path.dirname(output), name)
    os.makedirs(users)
    place(output, "new")
    assert (content(output), os.path.exists(users)) == ("new", True)


def test_where_the_new_folder_cannot_take_its_place_the_old_one_keeps_it(output, monkeypatch):
    place(output, "old")
    rename, asked = os.rename, []

    def fails(source: str, target: str) -> None:
        asked.append(target)
        if len(asked) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(UserError, match=rf"Cannot write {output}: Input/output error"):
        place(output, "new", overwrite=True)
    assert (content(output), os.listdir(os.path.dirname(output))) == ("old", ["faces"])


def test_a_folder_that_another_run_replaces_just_now_is_left_to_it(output):
    """Between its two renames there is none in the place."""
    place(output, "old")
    beside = os.path.dirname(output)
    old, living = os.path.join(beside, ".faces.old-00000000"), os.path.join(beside, ".faces.partial-00000000")
    os.rename(output, old)
    os.makedirs(living)
    with contextlib.ExitStack() as stack:
        atomic_dir._lock(living, stack)
        atomic_dir._sweep(output)
        assert (os.path.exists(old), os.path.exists(output)) == (True, False)
    atomic_dir._sweep(output)
    assert os.listdir(beside) == ["faces"]


def test_an_output_that_came_to_be_while_it_was_filled_is_not_replaced(output):
    def slowly() -> None:
        with atomic_dir.atomic_directory(output, overwrite=False) as folder:
            fill(folder, "new")
            place(output, "somebody's")

    with pytest.raises(UserError, match="exists already"):
        slowly()
    assert content(output) == "somebody's"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write .*file/faces"):
        place(str(tmp_path / "file" / "faces"), "new")
