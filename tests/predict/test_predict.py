"""Tests of `fer.predict.predict`: lines, JSON and summary of results."""

import io
import json

import pytest
import tensorflow as tf

from fer import streams
from fer.errors import UserError
from fer.evaluation import inference
from fer.labels import CLASS_SETS, CLASSES
from fer.models import loading
from fer.predict import input_readers, predict
from fer.predict.classification import Face, Result, Source
from fer.predict.face_detection import Box

BOX = Box(0, 0, 9, 9)


def face(probabilities: dict[int, float], box: Box | None = None) -> Face:
    """Returns a face with the probabilities of some labels."""
    best = max(probabilities, key=probabilities.get)
    named = {name: probabilities.get(label, 0.0) for label, name in enumerate(CLASSES)}
    return Face("", box, best, CLASSES[best], named)


def picture(path: str, *faces: Face, **options) -> Result:
    return Result(Source(path, path), list(faces), **options)


def row(number: int, probabilities: dict[int, float]) -> Result:
    return Result(Source("test.csv", str(number), row=number), [face(probabilities)])


def summarize(title: str, results: list[Result], rate: float | None = None) -> list[str]:
    summary = predict.Summary([title])
    for result in results:
        summary.add(result)
    return summary.lines(rate)


def test_summary_lines_of_one_face_name_the_photo_and_two_classes():
    one = picture("a/photo.jpg", face({3: 0.866, 6: 0.064, 0: 0.05}, BOX))
    assert summarize("a/photo.jpg", [one]) == ["1 face from a/photo.jpg", "a/photo.jpg: happy 87 %, neutral 6 %"]


def test_format_lines_leaves_out_a_class_that_is_nearly_impossible():
    assert predict.format_lines(picture("face.png", face({3: 0.998, 6: 0.002}))) == ["face.png: happy 100 %"]


def test_summary_lines_number_the_faces_of_one_photo_and_the_rows_of_a_table():
    predicted = [{3: 0.6, 6: 0.4}, {0: 0.7, 1: 0.3}]
    one = picture("two.jpg", *(face(each, BOX) for each in predicted))
    assert summarize("folder", [one], rate=12.4) == [
        "2 faces from folder, 12 images/s",
        "two.jpg#1: happy 60 %, neutral 40 %",
        "two.jpg#2: angry 70 %, disgust 30 %",
    ]
    assert summarize("test.csv", [row(number, each) for number, each in enumerate(predicted)])[1:] == [
        "test.csv row 0: happy 60 %, neutral 40 %",
        "test.csv row 1: angry 70 %, disgust 30 %",
    ]


@pytest.mark.parametrize(
    ("count", "lines"), [(predict.MAX_LISTED_FACES, predict.MAX_LISTED_FACES + 1), (predict.MAX_LISTED_FACES + 1, 1)]
)
def test_summary_lines_of_many_faces_are_counts_by_class(count, lines):
    results = [row(number, {6 if number == count - 1 else 3: 1.0}) for number in range(count)]
    lines_found = summarize("test.csv", results, rate=900.0)
    assert len(lines_found) == lines
    if lines == 1:
        assert lines_found == [f"{count} faces from test.csv, 900 images/s: happy {count - 1}, neutral 1"]


def test_format_lines_reports_photo_without_a_face_and_escapes_control_characters():
    assert predict.format_lines(picture("a.jpg")) == ["a.jpg: no face found"]
    assert predict.format_lines(picture("a\nb.jpg")) == ["a\\nb.jpg: no face found"]
    assert predict.format_lines(picture("bad.jpg", error="bad.jpg is bad")) == []
    assert predict.format_lines(picture("a\nb.jpg", face({3: 1.0}))) == ["a\\nb.jpg: happy 100 %"]


def test_json_printer_prints_one_array_with_an_object_for_each_picture():
    results = [
        picture("photo.jpg", face({3: 0.75, 6: 0.25}, Box(1, 2, 30, 40))),
        picture("none.jpg"),
        picture("caf\udce9.jpg", error="it is bad"),
        row(4, {0: 1.0}),
    ]
    file = io.StringIO()
    printer = predict.JsonPrinter(file)
    for result in results:
        printer.add(result)
    printer.close()
    photo, none, bad, line = json.loads(file.getvalue())
    assert photo == {
        "path": "photo.jpg",
        "faces": [
            {
                "box": {"left": 1, "top": 2, "width": 30, "height": 40},
                "label": 3,
                "name": "happy",
                "probabilities": {**dict.fromkeys(CLASSES, 0.0), "happy": 0.75, "neutral": 0.25},
            }
        ],
    }
    assert none == {"path": "none.jpg", "faces": []}
    assert bad == {"path": "caf\udce9.jpg", "error": "it is bad"}
    assert (line["path"], line["row"], line["faces"][0]["box"]) == ("test.csv", 4, None)
    assert file.getvalue().isascii()
    empty = io.StringIO()
    predict.JsonPrinter(empty).close()
    assert json.loads(empty.getvalue()) == []


@pytest.fixture
def blank_network(monkeypatch):
    """Replaces all networks by one that finds all classes equally likely."""
    monkeypatch.setattr(loading, "read_classes", lambda workdirs: CLASSES)
    monkeypatch.setattr(loading, "open_network", lambda workdir: lambda faces, training: tf.zeros([faces.shape[0], 7]))


def test_predict_stops_reading_when_the_reader_of_standard_output_has_exited(tmp_path, monkeypatch, blank_network):
    path = tmp_path / "test.csv"
    path.write_text("pixels\n" + (" ".join(["7"] * 2304) + "\n") * 400)
    read, sources = input_readers.read, []

    def read_and_count(*arguments):
        for source in read(*arguments):
            sources.append(source)
            yield source

    monkeypatch.setattr(input_readers, "read", read_and_count)
    monkeypatch.setattr(streams, "stdout_is_closed", lambda: True)
    file = io.StringIO()
    predict.predict(predict.PredictRequest(["run"], [str(path)]), predict.LinePrinter(file))
    assert file.getvalue() == f"{path} row 0: angry 14 %, disgust 14 %\n"
    assert len(sources) < 200


def test_predict_rejects_submission_of_other_classes_before_opening_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "read_classes", lambda workdirs: CLASS_SETS["ferplus"])
    request = predict.PredictRequest(["runs/plus"], ["test.csv"], output=str(tmp_path / "a.csv"), kaggle=True)
    with pytest.raises(UserError, match=r"^--kaggle writes labels of angry, .*runs/plus has the classes neutral, "):
        predict.predict(request)
    assert not (tmp_path / "a.csv").exists()


def test_predict_maps_classes_of_a_submission_by_name(tmp_path, monkeypatch):
    order = tuple(reversed(CLASSES))
    logits = tf.one_hot([order.index("happy")], 7)
    monkeypatch.setattr(loading, "read_classes", lambda workdirs: order)
    monkeypatch.setattr(
        loading, "open_network", lambda workdir: lambda faces, training: tf.repeat(logits, faces.shape[0], axis=0)
    )
    (tmp_path / "test.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    request = predict.PredictRequest(["run"], [str(tmp_path / "test.csv")], output=str(tmp_path / "a.csv"), kaggle=True)
    predict.predict(request)
    assert (tmp_path / "a.csv").read_text() == f"emotion\n{CLASSES.index('happy')}\n"


def test_predict_prints_result_when_its_batch_is_complete(tmp_path, monkeypatch, blank_network):
    path = tmp_path / "test.csv"
    path.write_text("pixels\n" + (" ".join(["7"] * 2304) + "\n") * 1000 + "1 2 3\n")  # several blocks of the reader
    file = io.StringIO()
    with pytest.raises(UserError, match=r"test\.csv, line 1002, column pixels: "):
        predict.predict(predict.PredictRequest(["run"], [str(path)]), predict.JsonPrinter(file))
    rows = [each["row"] for each in json.loads(file.getvalue())]
    assert rows == list(range(len(rows)))
    assert rows[inference.BATCH :]


def test_summary_check_accepts_pictures_without_faces_unless_a_file_needs_them():
    summary = predict.Summary(["none.jpg"])
    summary.add(picture("none.jpg"))
    summary.check(needs_faces=False)
    with pytest.raises(UserError, match=r"^No face was found in none\.jpg\. --faces=whole"):
        summary.check(needs_faces=True)


def test_summary_check_error_has_one_line_for_a_file_name_of_two():
    for result, expected in [
        (picture("a\nb.jpg"), r"in a\\nb\.jpg\."),
        (picture("", error="a\nb: bad"), r"^a\\nb: bad\."),
    ]:
        summary = predict.Summary(["photos"])
        summary.add(result)
        with pytest.raises(UserError, match=expected):
            summary.check(needs_faces=True)


def test_predict_prints_written_paths_on_one_line_each(tmp_path, blank_network, capsys):
    (tmp_path / "test.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    predict.predict(predict.PredictRequest(["run"], [str(tmp_path / "test.csv")], output=str(tmp_path / "a\nb.csv")))
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {tmp_path}/a\\nb.csv"


def test_summary_check_names_boxes_of_other_pictures_when_there_are_no_faces():
    summary = predict.Summary(["none.jpg"])
    summary.add(picture("none.jpg"))
    summary.unused_boxes = ["b.csv, line 2, column path: 'other.jpg' is no picture of the input"]
    with pytest.raises(UserError, match=r"^b\.csv, line 2, .*, so there are no faces\. Correct --boxes\."):
        summary.check(needs_faces=True)
