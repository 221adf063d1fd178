"""The page audit.html."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from fer.convert.audit import audit_html
from fer.io.temp_store import TempStore
from tests import browser
from tests.convert.audit.test_audit import FACES, dataset, result  # noqa: F401 - fixtures


class Reader(html.parser.HTMLParser):
    """Collects headings, images and addresses, and checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.pictures, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [value for key, value in attributes.items() if key in ("src", "href")]
        if tag == "img":
            self.pictures.append(attributes)
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


@pytest.fixture
def page(dataset, result, tmp_path) -> str:  # noqa: F811
    store = TempStore(str(tmp_path))
    store.append_faces(np.array([face[0] for face in FACES], np.uint8))
    text = audit_html.render_page(
        "a <b> & c", result.summary, result, dataclasses.replace(dataset, store=store), dataset.splits
    )
    store.close()
    return text


@pytest.fixture
def reader(page) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_audit_html_has_heading_for_every_finding(reader):
    assert reader.headings == [
        "Audit of a <b> & c",
        "Classes by split",
        "The same image, different labels",
        "The same image in several splits",
        "Nearly the same image in several splits",
        "Nearly the same image",
        "Blank images",
        "No face, says FER+",
        "Labels that all voters of FER+ dispute",
        "All figures",
    ]


def test_audit_html_links_and_counts_every_finding(reader, page, result):  # noqa: F811
    anchors = [address[1:] for address in reader.addresses if address.startswith("#")]
    assert anchors == re.findall(r'<h2 id="([^"]+)"', page)
    assert len(anchors) == 7
    faces = sum(map(len, result.conflicting))
    assert f"different labels</a>: {faces} faces in {len(result.conflicting)} groups<" in page


def test_audit_html_lists_figures_of_summary(page, result):  # noqa: F811
    assert f"<td>distinct images</td><td>{result.summary['distinct_images']}</td>" in page
    share = result.summary["ferplus"]["agreement"]
    assert f"<td>agreement</td><td>{share:.1%}</td>" in page


def test_audit_html_needs_no_network(reader, page):
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in reader.addresses)
    assert not re.search(r"https?://|@import|url\(", page)


def test_audit_html_image_is_face_of_its_row(reader):
    for picture in reader.pictures:
        row = int(picture["alt"].rsplit(" ", 1)[1])
        content = base64.b64decode(picture["src"].partition(",")[2])
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))).ravel(), FACES[row // 10][0])


def test_audit_html_image_names_label_split_and_row(reader):
    assert {"angry, validation 10", "happy, train 20", "neutral, validation 90"} <= {p["alt"] for p in reader.pictures}


@pytest.mark.parametrize("width", [390, 1200])
def test_audit_html_cuts_no_table(page, tmp_path, chromium, width):
    (tmp_path / "audit.html").write_text(page)
    browser.emulate(chromium, width, dark=False)
    chromium.get(f"file://{tmp_path}/audit.html")
    assert browser.cut_cells(chromium) == []
    assert chromium.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_audit_html_escapes_names_of_classes_and_lists_many_below_each_other(dataset, result, tmp_path):  # noqa: F811
    classes = tuple(f"c{number}<b>&" for number in range(100))
    balance = {name: dict.fromkeys(classes, 0.01) for name in ("train", "test")}
    store = TempStore(str(tmp_path))
    store.append_faces(np.array([face[0] for face in FACES], np.uint8))
    large = dataclasses.replace(dataset, store=store, classes=classes)
    text = audit_html.render_page("n", {**result.summary, "class_balance": balance}, result, large, dataset.splits)
    store.close()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert "<b>" not in text
    rows = re.findall(r"<tr><td>.*?</span></span>([^<]+)</td><td>1\.0%</td><td>1\.0%</td></tr>", text)
    assert rows == [f"c{number}&lt;b&gt;&amp;" for number in range(100)]
    assert len(set(re.findall(r"width:1\.00%;background:(#\w+)", text))) == 100
