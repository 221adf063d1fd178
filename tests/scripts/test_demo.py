"""Tests of scripts/demo.py and of its page in Chromium."""

import base64
import os
import pathlib
import re
import signal
import time

import pytest
from PIL import Image

from fer.labels import CLASSES
from tests import browser
from tests.demo.photo import PLACES, encoded, make_photo
from tests.evaluation import factories
from tests.scripts import run_script

pytest.importorskip("flask", reason="Flask is not installed: the extra demo brings it")
pytest.importorskip("selenium", reason="selenium is not installed: the extra test brings it")
pytest.importorskip("cv2", reason="OpenCV is not installed: the extra demo brings it")

from selenium.webdriver.common.keys import Keys

from fer.demo import server

WAIT = 20  # seconds
# Drops a file on the page, which selenium cannot do by itself.
DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (character) => character.charCodeAt(0));
const dropped = new DataTransfer();
dropped.items.add(new File([bytes], arguments[1], { type: arguments[2] }));
const event = new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true });
document.getElementById("drop").dispatchEvent(event);
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def address(folder):
    factories.run(folder / "run", seed=1)
    before = sorted(folder.rglob("*"))
    served = run_script.start("demo.py", folder, "--workdir=run", "--port=0")
    try:
        for _ in range(60 * 20):
            if "(Ctrl-C" in served.output()[0] or served.poll() is not None:
                break
            time.sleep(0.05)
        *steps, line = served.output()[0].splitlines()
        assert re.match(r"The page is at http://127\.0\.0\.1:\d+/ \(Ctrl-C stops the server\)", line), served.output()
        assert "Loading the model run ..." in steps
        assert "Compiling the model ..." in steps
        yield line.split()[4]
    finally:
        served.send_signal(signal.SIGINT)
        _, errors = served.communicate(timeout=WAIT)
    assert (served.returncode, errors) == (0, "")
    assert sorted(folder.rglob("*")) == before, "the server wrote files"


@pytest.fixture(scope="module")
def page(address, chromium):
    browser.emulate(chromium, 1100, False)
    chromium.get_log("browser")  # discards the messages of earlier pages
    chromium.get(address)
    return chromium


def wait_until(page, condition: str) -> None:
    """Waits until an expression of JavaScript is true."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(page, WAIT, 0.05).until(lambda page: page.execute_script(f"return Boolean({condition})"))


def drop(page, content: bytes, name: str = "photo.png", kind: str = "image/png") -> None:
    """Drops a file on the page and waits for the answer."""
    page.execute_script(DROP, base64.b64encode(content).decode(), name, kind)
    wait_until(page, "!document.getElementById('error').hidden || document.getElementById('faces').checkVisibility()")


def error_text(page) -> str:
    """Returns the error message on the page."""
    return page.find_element("id", "error").text


def test_page_shows_boxes_probabilities_and_gradcam_of_a_dropped_photo(page):
    drop(page, encoded(make_photo()))
    assert error_text(page) == ""
    assert page.find_element("id", "status").text == "2 faces found."
    faces = page.find_elements("css selector", ".face")
    assert len(faces) == len(page.find_elements("css selector", ".box")) == 2
    labels = [label.text for label in page.find_elements("css selector", ".box span")]
    for number, (face, label) in enumerate(zip(faces, labels), 1):
        assert [name.text for name in face.find_elements("css selector", ".name")] == list(CLASSES)
        shares = [float(share.text.split()[0]) for share in face.find_elements("css selector", ".share")]
        assert sum(shares) == pytest.approx(100, abs=3)
        widths = [bar.size["width"] for bar in face.find_elements("css selector", ".track i")]
        assert widths.index(max(widths)) == shares.index(max(shares))
        best = CLASSES[shares.index(max(shares))]
        assert face.find_element("css selector", "h2").text == f"Face {label}"
        assert re.fullmatch(rf"{number}: {best} \d+(\.\d)? %", label)
    wait_until(page, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_page_box_lies_on_its_face(page):
    drop(page, encoded(make_photo()))
    wait_until(page, "document.getElementById('picture').naturalWidth")
    picture = page.find_element("id", "picture").rect
    box = page.find_element("css selector", ".box").rect
    middle = (box["x"] + box["width"] / 2 - picture["x"]) / picture["width"]
    assert middle == pytest.approx((60 + 96) / 640, abs=0.05)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (encoded(Image.new("RGB", (320, 240), "green")), "No face was found in this photo"),
        (b"a letter", "This file is not a supported image"),
        (encoded(make_photo())[:2000], "This image cannot be read"),
    ],
    ids=["no face", "no image", "truncated"],
)
def test_page_shows_error_of_an_unusable_file(page, content, message):
    drop(page, content)
    assert error_text(page).startswith(message)
    assert not page.find_element("id", "result").is_displayed()


def test_page_classifies_a_chosen_file(page, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encoded(make_photo(), "JPEG"))
    page.find_element("id", "file").send_keys(str(tmp_path / "photo.jpg"))
    wait_until(page, "document.querySelectorAll('.face').length === 2")


def test_page_hides_a_photo_that_the_browser_cannot_display_and_shows_its_faces(page):
    drop(page, encoded(make_photo(), "TIFF"), "photo.tiff", "image/tiff")
    wait_until(page, "document.getElementById('photo').hidden")
    assert page.find_element("id", "status").text == "2 faces found. This browser cannot display the photo."
    assert [len(page.find_elements("css selector", name)) for name in (".face", ".box")] == [2, 2]
    assert not any(box.is_displayed() for box in page.find_elements("css selector", ".box"))
    drop(page, encoded(make_photo()))
    wait_until(page, "document.getElementById('picture').naturalWidth")
    assert page.find_element("id", "photo").is_displayed()


def test_page_rejects_too_large_file_without_upload(page, tmp_path):
    (tmp_path / "large.jpg").touch()
    os.truncate(tmp_path / "large.jpg", server.MAX_UPLOAD_BYTES + 1)
    page.find_element("id", "file").send_keys(str(tmp_path / "large.jpg"))
    wait_until(page, "!document.getElementById('error').hidden")
    assert error_text(page) == "This file is too large. The limit is 16 MiB."


def test_page_camera_takes_a_photo_and_is_closed_again(page):
    page.refresh()
    page.find_element("id", "camera").click()
    wait_until(page, "document.getElementById('video').videoWidth")
    page.find_element("id", "shoot").click()
    wait_until(page, "document.querySelectorAll('.face').length === 2")
    assert not page.find_element("id", "video").is_displayed()
    assert page.execute_script("return document.getElementById('video').srcObject === null")


def test_page_camera_is_off_after_closing_when_two_clicks_opened_it(page):
    page.refresh()
    page.execute_script("""
        const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
        window.opened = [];
        media.getUserMedia = async (wanted) => {
          const stream = await open(wanted);
          window.opened.push(...stream.getTracks());
          return stream;
        };
        document.getElementById("camera").click();
        document.getElementById("camera").click();
    """)
    wait_until(page, "document.getElementById('video').videoWidth")
    page.find_element("id", "stop").click()
    assert page.execute_script("return window.opened.map((track) => track.readyState)") == ["ended"]


def test_page_camera_button_has_focus_after_closing_by_keyboard(page):
    page.refresh()
    page.find_element("id", "camera").send_keys(Keys.ENTER)
    wait_until(page, "document.activeElement.id === 'shoot'")
    page.find_element("id", "stop").send_keys(Keys.ENTER)
    assert page.execute_script("return document.activeElement.id") == "camera"


@pytest.mark.parametrize(
    ("width", "dark"), [(1100, False), (1100, True), (390, False)], ids=["desktop", "dark", "phone"]
)
def test_page_fits_the_screen_and_the_preferred_colour_scheme(page, width, dark):
    browser.emulate(page, width, dark)
    drop(page, encoded(make_photo()))
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 128) == dark
    assert [entry for entry in page.get_log("browser") if "422" not in entry["message"]] == []


@pytest.mark.parametrize("count", [2, 1], ids=["two faces", "one face"])
@pytest.mark.parametrize(("width", "height"), [(1200, 860), (390, 844)], ids=["desktop", "phone"])
def test_page_shows_the_answer_without_scrolling(page, width, height, count):
    """The labels and the heading of the first face lie within the window, and each label touches its box."""
    page.refresh()
    browser.emulate(page, width, False, height)
    image = make_photo() if count == 2 else make_photo().crop((0, 0, 320, 400))
    drop(page, encoded(image))
    wait_until(page, "document.getElementById('picture').naturalWidth")
    assert page.execute_script("return window.scrollY") == 0
    boxes, headings = page.find_elements("css selector", ".box"), page.find_elements("css selector", ".face h2")
    assert len(boxes) == len(headings) == count
    for box in boxes:
        label = box.find_element("css selector", "span")
        text, frame = label.rect, box.rect
        assert any(name in label.text for name in CLASSES)
        assert 0 <= text["x"]
        assert text["x"] + text["width"] <= width
        assert 0 <= text["y"]
        assert text["y"] + text["height"] <= height
        assert frame["y"] - 2 <= text["y"] + text["height"] <= frame["y"] + frame["height"]
        assert frame["x"] - 4 <= text["x"] + text["width"]
        assert text["x"] <= frame["x"] + frame["width"] + 4
    heading = headings[0].rect
    assert heading["y"] + heading["height"] <= height


def test_page_puts_label_inside_the_box_at_the_top_edge_of_the_photo(page):
    left, top, side = PLACES[0]
    image = Image.new("RGB", (640, 400), (200, 205, 210))
    image.paste(make_photo().crop((left, top, left + side, top + side)), (left, 0))
    drop(page, encoded(image))
    wait_until(page, "document.getElementById('picture').naturalWidth")
    picture, label = (page.find_element("css selector", each).rect for each in ("#picture", ".box span"))
    assert label["y"] >= picture["y"] - 2


def test_page_controls_and_images_have_accessible_names(page):
    drop(page, encoded(make_photo()))
    for element in page.find_elements("css selector", "button, input, img, video"):
        assert element.accessible_name or not element.is_displayed(), element.get_attribute("outerHTML")
