"""Paths in flags are resolved and checked."""

import os
import re

import pytest
from absl import flags

from fer import flag_paths
from fer.config import Experiment, Model, Train
from fer.errors import UserError

NO_PATHS = {  # flags whose value is no path
    *(
        "policy",
        "mlflow",  # a tracking URI
        "drop",
        "host",
        "model",
        "baselines",
        "workers",
        "grid",
        "ablations",
        "space",
        "every",
        "smooth",
        "classes",
    ),
}


def resolve_flag(kind: str, text: str, name: str = "input"):
    """Returns the value of a flag after `flag_paths.resolve`."""
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
def test_resolve_returns_path(text, expected):
    assert resolve_flag("string", text) == expected
    assert resolve_flag("list", text) == expected.split(",")


@pytest.mark.parametrize("text", ["~/own", "http:/a,b", "~x,y"])
def test_resolve_keeps_path_that_exists(tmp_path, text):
    (tmp_path / text).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / text).write_text("")
    assert resolve_flag("string", text) == text


@pytest.mark.parametrize(
    "text",
    ["https://example.com/a.jpg", "hdfs://host/x", "ram://b/x", "file:///x", "http:/x", "a,ftp://h/x", "S3://b/x"],
)
@pytest.mark.parametrize("kind", ["string", "list"])
def test_resolve_rejects_scheme(kind, text):
    scheme = re.search(r"(\w+):/", text)[1]
    with pytest.raises(UserError, match=rf"^--input={scheme}:/.*: the scheme {scheme}: is not supported; "):
        resolve_flag(kind, text)


@pytest.mark.parametrize("text", ["s3://b/x", "gs://b/x", "az://b/x", "a,gs://b/[x]"])
def test_resolve_accepts_store(text):
    assert resolve_flag("string", text) == text


@pytest.mark.parametrize("text", ["s3://", "s3:///faces", "a,s3://"])
def test_resolve_rejects_store_without_bucket(text):
    with pytest.raises(UserError, match=r"^--input=s3://\S* names no bucket; write s3://BUCKET/PATH\."):
        resolve_flag("string", text)


@pytest.mark.parametrize("text", ["", " "])
def test_resolve_rejects_empty_path(text):
    with pytest.raises(UserError, match=r"^--output is empty: it must name a path"):
        resolve_flag("string", text, "output")


def test_resolve_error_shows_bytes_that_are_not_utf8():
    with pytest.raises(UserError, match=r"^--input=caf\\xe9\.png is not UTF-8"):
        resolve_flag("string", os.fsdecode(b"caf\xe9.png"))


def test_resolve_rejects_nul_byte():
    with pytest.raises(UserError, match=r"^--input holds a NUL byte.*a\\x00b"):
        resolve_flag("string", "a\0b")


def test_resolve_leaves_flags_that_were_not_given():
    values = flags.FlagValues()
    flags.DEFINE_string("output", "~default", "", flag_values=values)
    values(["program"])
    flag_paths.resolve(values)
    assert values["output"].value == "~default"


def test_flag_paths_cover_every_path_flag(root):
    """A path flag that is missing in `PATHS` would not be checked."""
    defined = set()
    for path in (root / "scripts").glob("*.py"):
        text = path.read_text()
        defined |= set(re.findall(r'(?:DEFINE_(?:string|list|config_file|flag)|define_paths)\(\s*"(\w+)"', text))
    assert defined
    assert defined - flag_paths.PATHS - {"config", "label_map", "storage"} - NO_PATHS == set()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("label_map", "~/map.json", "/home/me/map.json"),
        ("label_map", "affectnet,~/map.json,7=none", "affectnet,/home/me/map.json,7=none"),
        ("label_map", "~=happy", "~=happy"),
        ("storage", "journal:~/study", "journal:/home/me/study"),
        ("storage", "journal:a[1]/study", "journal:a[1]/study"),
        ("storage", "sqlite:///~/study.db", "sqlite:////home/me/study.db"),
        ("storage", "sqlite:///study.db?timeout=9", "sqlite:///study.db?timeout=9"),
        ("storage", "mysql+pymysql://me:secret@host/db", "mysql+pymysql://me:secret@host/db"),
        ("storage", "", ""),
    ],
)
def test_resolve_returns_paths_within_other_text(name, text, expected):
    assert resolve_flag("string", text, name) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("label_map", "fer2013,http://host/map.json", r"^--label_map=http://host/map\.json: the scheme http: is not"),
        ("storage", "study.db", r"^--storage=study\.db is no storage: it takes journal:PATH or the address"),
        ("storage", "x y://me:secret@host", r"^--storage=x y://me:\*\*\*@host is no storage: "),
        ("storage", "sqlite:///", r"^--storage=sqlite:/// keeps the study in memory, where it is lost when the"),
        ("storage", "sqlite://", r"^--storage=sqlite:// keeps the study in memory"),
        ("storage", "sqlite:///:memory:", r"^--storage=sqlite:///:memory: keeps the study in memory"),
        (
            "storage",
            "sqlite:///file:a?mode=memory&uri=true",
            r"^--storage=sqlite:///file:a\S* keeps the study in memory",
        ),
        ("storage", "journal:", r"^--storage is empty: it must name a path"),
        (
            "storage",
            "journal:s3://bucket/study",
            r"^--storage=journal:s3://bucket/study: a study is on a local disk or in a database",
        ),
        ("storage", "journal:.", r"^--storage=journal:\.: Cannot write \.: it is a folder"),
        ("storage", "sqlite:///.", r"^--storage=sqlite:///\.: Cannot write \.: it is a folder"),
    ],
)
def test_resolve_rejects_paths_within_other_text(name, text, message):
    with pytest.raises(UserError, match=message):
        resolve_flag("string", text, name)


def experiment(weights: str = "none", teacher: str = "") -> Experiment:
    return Experiment(model=Model(weights=weights), train=Train(teacher_runs=teacher))


def test_resolve_keeps_comma_of_list_in_path_that_exists(tmp_path):
    for name in ("x,y/run", "a", "b"):
        (tmp_path / name).mkdir(parents=True)
    assert resolve_flag("list", "x,y/run", "workdir") == ["x,y/run"]
    assert resolve_flag("list", "a,x,y/run, b", "workdir") == ["a", "x,y/run", "b"]
    assert resolve_flag("list", "x,y/gone,a", "workdir") == ["x", "y/gone", "a"]


@pytest.mark.parametrize("kind", ["string", "list"])
def test_resolve_rejects_path_above_4095_bytes(kind):
    with pytest.raises(UserError, match=r"^--output names a path of more than 4,095 bytes"):
        resolve_flag(kind, "p/" * 2100, "output")
    assert resolve_flag(kind, ",".join(["p/" * 1000] * 9), "input")


@pytest.mark.parametrize("text", ["journal:pipe", "sqlite:///pipe", "journal:/dev/full"])
def test_resolve_rejects_storage_in_a_pipe_or_a_device(text, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=rf"^--storage={text}: \S+ is a pipe or a device: name a file"):
        resolve_flag("string", text, "storage")


def test_resolve_returns_standard_output_for_hyphen():
    assert resolve_flag("string", "-", "output") == "/dev/stdout"
    assert resolve_flag("string", "-", "input") == "-"


def test_resolve_fields_returns_paths():
    changed = experiment("~/face.npz", "runs/a[1], ~/b")
    flag_paths.resolve_fields(changed)
    assert changed == experiment("/home/me/face.npz", "runs/a[1],/home/me/b")


def test_resolve_fields_leaves_experiment_without_paths():
    unchanged = experiment()
    flag_paths.resolve_fields(unchanged)
    assert unchanged == experiment()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": "hdfs://b/face.npz"}, r"^--config\.model\.weights=hdfs://b/face\.npz: the scheme hdfs: is not"),
        ({"teacher": "runs/a,hdfs://b/c"}, r"^--config\.train\.teacher_runs=hdfs://b/c: the scheme hdfs: is not"),
        ({"teacher": "a\0b"}, r"^--config\.train\.teacher_runs holds a NUL byte"),
    ],
)
def test_resolve_fields_rejects_path(fields, message):
    with pytest.raises(UserError, match=message):
        flag_paths.resolve_fields(experiment(**fields))
