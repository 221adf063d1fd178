"""Paths in flags are resolved and checked for every program, in one place."""

import os
import re

import pytest
from absl import flags

from fer import flag_paths
from fer.errors import UserError

NO_PATHS = {  # flags that take a text which names no path
    *(
        "policy",
        "label_map",
        "drop",
        "host",
        "model",
        "peers",
        "storage",
        "workers",
        "config",
        "grid",
        "changes",
        "space",
    ),
}


def resolved(kind: str, text: str, name: str = "input"):
    """The value of a flag after `resolve`."""
    values = flags.FlagValues()
    define = flags.DEFINE_list if kind == "list" else flags.DEFINE_string
    define(name, None, "", flag_values=values)
    values(["program", f"--{name}={text}"])
    flag_paths.resolve(values)
    return values[name].value


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    return "/home/me"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~/faces", "/home/me/faces"),
        ("~", "/home/me"),
        ("a,~/b", "a,/home/me/b"),
        ("faces", "faces"),
        ("lr=[0.1]", "lr=[0.1]"),
        ("back\\slash", "back\\slash"),
        ("s3://bucket/faces", "s3://bucket/faces"),
        ("synthetic:400", "synthetic:400"),
        ("-", "-"),
        ("a:b", "a:b"),
        ("/a~/b", "/a~/b"),
    ],
)
def test_resolve_gives_path(text, expected):
    assert resolved("string", text) == expected
    assert resolved("list", text) == expected.split(",")


@pytest.mark.parametrize("text", ["~/own", "http:/a,b", "~x,y"])
def test_resolve_keeps_path_that_exists(tmp_path, text):
    (tmp_path / text).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / text).write_text("")
    assert resolved("string", text) == text


@pytest.mark.parametrize(
    "text",
    ["https://example.com/a.jpg", "hdfs://host/x", "gs://b/x", "file:///x", "http:/x", "a,ftp://h/x", "S3://b/x"],
)
@pytest.mark.parametrize("kind", ["string", "list"])
def test_resolve_rejects_scheme(kind, text):
    scheme = re.search(r"(\w+):/", text)[1]
    with pytest.raises(UserError, match=rf"^--input={scheme}:/.*: the scheme {scheme}: is not supported; "):
        resolved(kind, text)


@pytest.mark.parametrize("text", ["", " "])
def test_resolve_rejects_empty_path(text):
    with pytest.raises(UserError, match=r"^--output is empty: it must name a path"):
        resolved("string", text, "output")


def test_resolve_error_shows_bytes_that_are_not_utf8():
    with pytest.raises(UserError, match=r"^--input=caf\\xe9\.png is not UTF-8"):
        resolved("string", os.fsdecode(b"caf\xe9.png"))


def test_resolve_rejects_nul_byte():
    with pytest.raises(UserError, match=r"^--input holds a NUL byte.*a\\x00b"):
        resolved("string", "a\0b")


def test_resolve_leaves_flags_that_were_not_given():
    values = flags.FlagValues()
    flags.DEFINE_string("output", "~default", "", flag_values=values)
    values(["program"])
    flag_paths.resolve(values)
    assert values["output"].value == "~default"


def test_every_flag_of_programs_is_known_as_path_or_not(root):
    """A flag for a path that is missing from `PATHS` would be checked nowhere."""
    defined = set()
    for path in (root / "scripts").glob("*.py"):
        text = path.read_text()
        defined |= set(re.findall(r'(?:DEFINE_(?:string|list|config_file|flag)|define_paths)\(\s*"(\w+)"', text))
    assert defined
    assert defined - flag_paths.PATHS - NO_PATHS == set()
