"""Classes of folder names and labels."""

import pytest

from fer.convert.readers import label_map
from fer.convert.readers.label_map import EXCLUDED
from fer.errors import UserError
from fer.labels import CLASSES
from tests.convert import input_factories

PUBLISHED = {  # from the publications: the word of each number
    "fer2013": {0: "angry", 1: "disgust", 2: "fear", 3: "happy", 4: "sad", 5: "surprise", 6: "neutral"},
    "affectnet": {0: "neutral", 1: "happiness", 2: "sadness", 3: "surprise", 4: "fear", 5: "disgust", 6: "anger"},
    "rafdb": {1: "surprise", 2: "fear", 3: "disgust", 4: "happiness", 5: "sadness", 6: "anger", 7: "neutral"},
}


@pytest.mark.parametrize("order", PUBLISHED)
def test_label_map_order_maps_every_number(order):
    labels = label_map.parse_label_map(order)
    for number, word in PUBLISHED[order].items():
        for name in (str(number), f"0{number}", f" {number} ", f"class_{number}", f"Label {number}"):
            assert labels.find(name) == label_map.DEFAULT_MAP.find(word) in range(len(CLASSES))
    others = {str(number) for number in range(11)} - {str(number) for number in PUBLISHED[order]}
    assert [labels.find(number) for number in others] == [None] * len(others)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Anger", "angry"),
        ("ANGRY", "angry"),
        ("neutrality", "neutral"),
        ("Happiness ", "happy"),
        ("joy", "happy"),
        ("0_angry", "angry"),
        ("1-happy", "happy"),
        ("6neutral", "neutral"),
        ("05. Sadness", "sad"),
        ("fear_2", "fear"),
        ("(3) surprised", "surprise"),
        ("contempt", None),
        ("happy_sad", None),
        ("unhappy", None),
        ("", None),
        ("3", None),
    ],
)
def test_label_map_finds_class_of_word_with_or_without_number(name, word):
    assert label_map.DEFAULT_MAP.find(name) == (None if word is None else CLASSES.index(word))


def test_label_map_reads_numbers_in_fer2013_order_when_proved():
    assert [label_map.DEFAULT_MAP.find(str(number), fer2013=True) for number in range(8)] == [*range(7), None]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0=angry,1=happiness", {"0": 0, "1": 3}),
        ("0=neutral, 7 = none", {"0": 6, "7": EXCLUDED}),
        ("contempt=disgust", {"contempt": 1}),
        ("rafdb,7=none,contempt=None", {"1": 5, "7": EXCLUDED, "contempt": EXCLUDED}),
        ("7=none,rafdb", {"1": 5, "7": EXCLUDED}),
        ("AffectNet", {"0": 6}),
        ("RAF-DB", {"7": 6}),
        ("FER-2013", {"0": 0}),
    ],
)
def test_label_map_pairs_override_order(text, names):
    labels = label_map.parse_label_map(text)
    assert {name: labels.find(name) for name in names} == names


def test_label_map_is_numbered_when_pair_names_a_number():
    assert not label_map.parse_label_map("contempt=none").numbered
    assert label_map.parse_label_map("contempt=none,0=sad").numbered


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('{"0": "neutral", "1": "Happiness", "7": null, "x": "none"}', {"0": 6, "1": 3, "7": EXCLUDED, "x": EXCLUDED}),
        ('["sad", "fear"]', {"0": 4, "1": 2}),
        ('\ufeff{"0": "sad"}', {"0": 4}),
    ],
)
@pytest.mark.parametrize("name", ["map.json", "a, b.JSON", "a=b.json"])
def test_label_map_reads_json_file(name, content, names, tmp_path):
    path = input_factories.write_file(tmp_path / name, content)
    labels = label_map.parse_label_map(path)
    assert ({name: labels.find(name) for name in names}, labels.given) == (names, name)
    if name == "map.json":
        assert label_map.parse_label_map(f"{path},0=fear").find("0") == CLASSES.index("fear")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "affectnett",
            "'affectnett' is not a map; it takes fer2013, ferplus, affectnet, rafdb, FILE.json or pairs such as 0=ang",
        ),
        ("0=contempt", "maps '0' to 'contempt', which is not angry, disgust, .* neutral or none"),
        ("0=1", "maps '0' to '1', which is not angry"),
        ("0=angry,00=sad", "maps '00' twice"),
        ("rafdb,affectnet", "names two orders, rafdb and affectnet"),
        (",", "maps nothing"),
        ("nowhere.json", r"There is no .*nowhere\.json: --label_map takes"),
    ],
)
def test_label_map_error_names_wrong_value(text, reason):
    with pytest.raises(UserError, match=reason):
        label_map.parse_label_map(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not valid JSON"),
        ("\xff", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("{}", 'maps nothing: write an object such as {"0": "angry"'),
        ("3", "maps nothing"),
        ('{"0": 3}', "maps '0' to 3, which is not angry"),
        ('{"angry": 0}', "maps 'angry' to 0, which is not angry"),
        ('{"0": "sad", "0": "fear"}', "maps '0' twice"),
        ('{"0": {"1": "sad"}}', "maps '0' to"),
    ],
)
def test_label_map_error_names_wrong_file(content, reason, tmp_path):
    path = input_factories.write_file(tmp_path / "map.json", content.encode("latin-1"))
    with pytest.raises(UserError, match=f"map.json {reason}"):
        label_map.parse_label_map(path)


def test_label_map_expands_home_folder(tmp_path, monkeypatch):
    input_factories.write_file(tmp_path / "map.json", '{"0": "sad"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert label_map.parse_label_map("~/map.json").find("0") == CLASSES.index("sad")


@pytest.mark.parametrize("name", ["²", "٣", "-1", "1.0", "1e2"])
def test_label_map_ignores_other_digits_and_signs(name):
    assert not label_map.is_number(name)
    assert label_map.parse_label_map("fer2013").find(name) is None


@pytest.mark.parametrize(
    ("given", "name", "advice"),
    [
        (
            "",
            "contempt",
            "--label_map=contempt=angry, or another class, or exclude it with --label_map=contempt=none",
        ),
        ("affectnet", "7", "--label_map=affectnet,7=angry, or another class, or exclude it with"),
    ],
)
def test_label_map_advice_names_working_flag(given, name, advice):
    assert advice in label_map.parse_label_map(given).advice(name)
    text = advice.partition("--label_map=")[2].partition(",")[0] if not given else "affectnet,7=angry"
    assert label_map.parse_label_map(text).find(name) is not None
