"""Tables in every published form, and the error messages for their faults."""

import dataclasses

import numpy as np
import pytest

from fer.convert.readers import csv_reader, label_map
from fer.convert.rows import NO_SPLIT, UNLABELLED, Block
from fer.errors import UserError
from tests.convert import input_factories

IMAGES = input_factories.noise(4)
PIXELS = [input_factories.pixel_text(image) for image in IMAGES]


def read(content, size: int = 1 << 20) -> Block:
    """Reads a table that fits into one block, in chunks of `size` bytes."""
    content = content if isinstance(content, bytes) else content.encode()
    chunks = (content[start : start + size] for start in range(0, len(content), size))
    [piece] = csv_reader.iter_chunks("faces.csv", chunks)
    return csv_reader.parse_lines(piece)


def read_rejects(content) -> list[str]:
    """Returns the messages of the rejected rows of a table."""
    return [str(reject) for reject in read(content).rejects]


FORMS = {
    "fer2013.csv": ("emotion,pixels,Usage", "{label},{pixels},{usage}"),
    "icml_face_data.csv": ("emotion, Usage, pixels", "{label},{usage},{pixels}"),
    "all quoted": ('"emotion","pixels","Usage"', '"{label}","{pixels}","{usage}"'),
    "all quoted, after spaces": ('"emotion", "pixels", "Usage"', '"{label}", "{pixels}", "{usage}"'),
    "pixels quoted": ("emotion,pixels,Usage", '{label},"{pixels}",{usage}'),
    "extra columns": ("id,emotion,note,pixels,Usage", '9,{label},"a ""b"", c",{pixels},{usage}'),
    "other case and spaces": (" Emotion ,PIXELS, usage", " {label} ,{pixels}, {usage} "),
}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("form", FORMS)
def test_csv_reader_reads_same_rows_from_every_form(form, mark, ending):
    header, row = FORMS[form]
    lines = [
        row.format(label=label, pixels=text, usage=usage)
        for label, text, usage in zip([0, 6, 3, 3], PIXELS, [*input_factories.USAGES, "Training"])
    ]
    block = read(mark + ending.join([header, *lines]) + ending)
    np.testing.assert_array_equal(block.images, IMAGES)
    assert block.labels.tolist() == [0, 6, 3, 3]
    assert block.splits.tolist() == [0, 1, 2, 0]
    assert block.rows.tolist() == [0, 1, 2, 3]
    assert (block.count, block.rejects) == (4, ())


def test_csv_reader_leaves_split_open_without_usage():
    block = read(f"emotion,pixels\n5,{PIXELS[0]}\n")
    assert (block.labels.tolist(), block.splits.tolist()) == ([5], [NO_SPLIT])


def test_csv_reader_reads_pixels_alone_as_unlabelled_test():
    block = read(f"pixels\n{PIXELS[0]}\n" + f'"{PIXELS[1]}"\n')
    np.testing.assert_array_equal(block.images, IMAGES[:2])
    assert (block.labels.tolist(), block.splits.tolist()) == ([UNLABELLED] * 2, [2, 2])


def test_csv_reader_reads_last_line_without_line_end():
    assert read(f"emotion,pixels\n5,{PIXELS[0]}").count == 1


@pytest.mark.parametrize("size", [1, 7, 4096, 9000])
def test_csv_reader_is_independent_of_chunk_size(size):
    content = input_factories.make_csv(IMAGES).encode()
    pieces = list(csv_reader.iter_chunks("f", (content[i : i + size] for i in range(0, len(content), size))))
    blocks = [csv_reader.parse_lines(piece) for piece in pieces]
    np.testing.assert_array_equal(np.concatenate([block.images for block in blocks]), IMAGES)
    assert pieces[0].first == 2
    assert sum(piece.text.count(b"\n") + 1 for piece in pieces) == len(IMAGES)


def test_csv_reader_counts_blank_lines():
    block = read(f"emotion,pixels\n\n5,{PIXELS[0]}\n  \n\r\n4,{PIXELS[1]}\n\n")
    assert (block.count, block.blank, block.rows.tolist()) == (2, 4, [0, 1])


def test_csv_reader_counts_blank_lines_among_quoted_rows():
    block = read(f'emotion,pixels\n5,"{PIXELS[0]}"\n\n \t\n4,"{PIXELS[1]}"\n\n')
    assert (block.count, block.blank, block.rejects) == (2, 3, ())


@pytest.mark.parametrize("quote", ["", '"'])
def test_csv_reader_treats_stray_carriage_return_as_white_space(quote):
    block = read(f"emotion,pixels\n\r5,{quote}{PIXELS[0]}{quote}\n")
    assert (block.labels.tolist(), block.rejects) == ([5], ())


def test_csv_reader_treats_carriage_return_beside_doubled_quote_as_white_space():
    block = read(f'note,emotion,pixels\n"a ""b""",5\r,{PIXELS[0]}\n')
    assert (block.labels.tolist(), block.rejects) == ([5], ())


def test_csv_reader_line_numbers_include_blank_lines():
    [found] = read_rejects(f"emotion,pixels\n\n\n7,{PIXELS[0]}\n")
    assert found.startswith("faces.csv, line 4, column emotion:")


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ("7,{}", "emotion", "'7' is no label"),
        ("-1,{}", "emotion", "'-1' is no label"),
        (",{}", "emotion", "'' is no label"),
        ("happy,{}", "emotion", "'happy' is no label"),
        ("3.0,{}", "emotion", "'3.0' is no label"),
        ("3,{} 1", "pixels", "2,305 values"),
        ("3,{}x", "pixels", "not a whole number"),
        ("3,", "pixels", "0 values"),
    ],
)
def test_csv_reader_error_names_line_and_column_of_wrong_value(row, column, reason):
    good = f"4,{PIXELS[1]}\n"
    [found] = read_rejects("emotion,pixels\n" + good + row.format(PIXELS[0]) + "\n" + good)
    assert found.startswith(f"faces.csv, line 3, column {column}: ")
    assert reason in found


def test_csv_reader_error_names_unknown_usage():
    [found] = read_rejects(f"emotion,pixels,Usage\n4,{PIXELS[0]},Test\n")
    assert found.startswith("faces.csv, line 2, column Usage: 'Test'")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("junk", "1 field where the header names 2"),
        ("1,2,3,4", "4 fields where the header names 2"),
        ("<html>", "1 field where"),
        ('3,"1 2', "its quotes are wrong"),
        ('3,"1" 2', "its quotes are wrong"),
    ],
)
def test_csv_reader_error_names_line_of_junk(row, reason):
    [found] = read_rejects(f"emotion,pixels\n3,{PIXELS[0]}\n{row}\n")
    assert found.startswith("faces.csv, line 3: ")
    assert reason in found


def test_rejects_are_in_line_order_with_original_row():
    block = read(b"emotion,pixels\n3,1 2\n7,1\n\xff\xfe\0junk\r\n3,\n")
    assert [reject.line for reject in block.rejects] == [2, 3, 4, 5]
    assert [reject.original for reject in block.rejects] == [b"3,1 2", b"7,1", b"\xff\xfe\0junk", b"3,"]
    assert (block.count, len(block.images)) == (4, 0)


def test_csv_reader_keeps_row_numbers_among_bad_rows():
    block = read(f"emotion,pixels\n9,1\n1,{PIXELS[0]}\n1,2 3\njunk\n2,{PIXELS[1]}\n")
    assert (block.rows.tolist(), block.labels.tolist()) == ([1, 4], [1, 2])
    np.testing.assert_array_equal(block.images, IMAGES[:2])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("a,b,c", "no column pixels"),
        ("emotion,Usage", "no column pixels"),
        ("pixels,Usage", "no column emotion"),
        ("emotion,pixels,Pixels", "occurs twice"),
        ("", "no column pixels"),
    ],
)
def test_csv_reader_error_names_missing_column(header, reason):
    with pytest.raises(UserError, match=f"faces.csv, line 1: .*{reason}"):
        read(f"{header}\n1,2,3\n")


def test_csv_reader_rejects_endless_line():
    chunks = (b"1" * (1 << 16) for _ in range(1 << 20))
    with pytest.raises(UserError, match="line 1 is longer"):
        list(csv_reader.iter_chunks("faces.csv", chunks))


@pytest.mark.parametrize(
    ("line", "form"),
    [
        (b"emotion,pixels,Usage", "fer2013.csv"),
        (b'"emotion", "pixels", "Usage"', "fer2013.csv"),
        (b"emotion, Usage, pixels", "icml_face_data.csv"),
        (b"emotion,Usage,pixels", "a table with the columns emotion, Usage, pixels"),
    ],
)
def test_read_header_recognizes_published_forms(line, form):
    assert csv_reader.is_table(line)
    assert csv_reader.read_header("f", line).form.startswith(form)


def test_read_header_describes_form_and_ignored_columns():
    header = csv_reader.read_header("f", b"emotion,pixels,Usage,note")
    assert "emotion, pixels, Usage, note" in header.form
    assert header.ignored == ("note",)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("label,pixels", "label"),
        ("Class,pixels", "Class"),
        ("emotions,pixels", "emotions"),
        ("id,pixels,expression", "expression"),
        ("pixels,emotion_id,score", "emotion_id, score"),
        ('"y", "pixels"', "y"),
        ("\ufeffLabels,pixels", "Labels"),
        (",".join(["pixels", *(f"c{number}" for number in range(9))]), "c0, c1, c2, c3, c4 and 4 more"),
    ],
)
def test_check_columns_error_names_possible_label_columns(header, columns):
    found = csv_reader.read_header("train.csv", header.encode())
    with pytest.raises(UserError) as caught:
        csv_reader.check_columns("train.csv", found)
    message = str(caught.value)
    assert message.startswith(
        f"train.csv, line 1: there is no column emotion, and {columns} may hold the labels: call the"
    )
    assert (
        "emotion (0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise, 6 neutral; --label_map for others)" in message
    )


@pytest.mark.parametrize("name", ["split", "Set", "phase", "partition"])
def test_check_columns_error_names_possible_split_column(name):
    found = csv_reader.read_header("train.csv", f"emotion,pixels,{name}".encode())
    with pytest.raises(UserError, match=f"no column Usage, and {name} may hold the splits: call it Usage"):
        csv_reader.check_columns("train.csv", found)


@pytest.mark.parametrize(
    "header",
    ["pixels", "id,pixels", "Image Name,pixels,ID", ",pixels", "emotion,pixels,label", "emotion,pixels,Usage,split"],
)
def test_check_columns_accepts_unrelated_columns(header):
    csv_reader.check_columns("f", csv_reader.read_header("f", header.encode()))


def test_csv_reader_applies_label_map():
    [piece] = csv_reader.iter_chunks(
        "f", iter([f"emotion,pixels\n0,{PIXELS[0]}\nHappy,{PIXELS[1]}\n6,{PIXELS[2]}\n".encode()])
    )
    header = dataclasses.replace(piece.header, labels=label_map.parse_label_map("affectnet,6=none"))
    block = csv_reader.parse_lines(dataclasses.replace(piece, header=header))
    assert (block.labels.tolist(), block.rows.tolist(), block.excluded, block.count) == ([6, 3], [0, 1], 1, 3)
    header = dataclasses.replace(piece.header, labels=label_map.parse_label_map("rafdb"))
    [reject] = csv_reader.parse_lines(dataclasses.replace(piece, header=header)).rejects
    assert str(reject) == "f, line 2, column emotion: '0' is no label of --label_map=rafdb"


def test_csv_reader_error_for_word_label_names_label_map():
    [found] = read_rejects(f"emotion,pixels\nhappy,{PIXELS[0]}\n")
    assert found.endswith("'happy' is no label; 0 to 6 are, and words with --label_map=fer2013")
