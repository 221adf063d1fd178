"""scripts/demo.py, run as a user runs it, and its page in a browser."""

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
from tests.demo.photo import encoded, photo
from tests.evaluation import factories
from tests.scripts import run_script

pytest.importorskip("flask", reason="Flask is not installed: the extra demo brings it")
pytest.importorskip("selenium", reason="selenium is not installed: the extra test brings it")
pytest.importorskip("cv2", reason="OpenCV is not installed: the extra demo brings it")

from selenium.webdriver.common.keys import Keys

from fer.demo import server

WAIT = 20  # seconds
# Drops a file on the page, as a person's hand does: nothing else of selenium does so.
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
            if "\n" in served.said()[0] or served.poll() is not None:
                break
            time.sleep(0.05)
        line = served.said()[0]
        assert re.match(r"The page is at http://127\.0\.0\.1:\d+/ ", line), served.said()
        yield line.split()[4]
    finally:
        served.send_signal(signal.SIGINT)
        _, complaint = served.communicate(timeout=WAIT)
    assert (served.returncode, complaint) == (0, "")
    assert sorted(folder.rglob("*")) == before, "nothing is stored"


@pytest.fixture(scope="module")
def page(address, chromium):
    browser.emulate(chromium, 1100, False)
    chromium.get_log("browser")  # of the pages before
    chromium.get(address)
    return chromium


def shown(page, condition: str) -> None:
    """Waits until an expression of JavaScript is true."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(page, WAIT, 0.05).until(lambda page: page.execute_script(f"return Boolean({condition})"))


def drop(page, content: bytes, name: str = "photo.png", kind: str = "image/png") -> None:
    page.execute_script(DROP, base64.b64encode(content).decode(), name, kind)
    shown(page, "!document.getElementById('error').hidden || document.getElementById('faces').checkVisibility()")


def complaint(page) -> str:
    return page.find_element("id", "error").text


def test_a_dropped_photo_shows_boxes_bars_and_where_the_network_looked(page):
    drop(page, encoded(photo()))
    assert complaint(page) == ""
    assert page.find_element("id", "status").text == "2 faces were found."
    faces = page.find_elements("css selector", ".face")
    assert len(faces) == len(page.find_elements("css selector", ".box")) == 2
    for face in faces:
        assert [name.text for name in face.find_elements("css selector", ".name")] == list(CLASSES)
        shares = [float(share.text.split()[0]) for share in face.find_elements("css selector", ".share")]
        assert sum(shares) == pytest.approx(100, abs=3)
        widths = [bar.size["width"] for bar in face.find_elements("css selector", ".track i")]
        assert widths.index(max(widths)) == shares.index(max(shares))
        best = CLASSES[shares.index(max(shares))]
        assert best in face.find_element("css selector", "h2").text
    shown(page, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_a_box_lies_on_its_face(page):
    drop(page, encoded(photo()))
    shown(page, "document.getElementById('picture').naturalWidth")
    picture = page.find_element("id", "picture").rect
    box = page.find_element("css selector", ".box").rect
    middle = (box["x"] + box["width"] / 2 - picture["x"]) / picture["width"]
    assert middle == pytest.approx((60 + 96) / 640, abs=0.05)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(Image.new("RGB", (320, 240), "green")), "No face was found in this picture"),
        (b"a letter", "This file is no picture that is read"),
        (encoded(photo())[:2000], "This file is no picture that can be read"),
    ],
    ids=["no face", "no picture", "cut short"],
)
def test_what_cannot_be_shown_is_a_sentence_on_the_page(page, content, said):
    drop(page, content)
    assert complaint(page).startswith(said)
    assert not page.find_element("id", "result").is_displayed()


def test_a_chosen_file_is_recognised_too(page, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encoded(photo(), "JPEG"))
    page.find_element("id", "file").send_keys(str(tmp_path / "photo.jpg"))
    shown(page, "document.querySelectorAll('.face').length === 2")


def test_too_large_a_file_is_not_even_sent(page, tmp_path):
    (tmp_path / "large.jpg").touch()
    os.truncate(tmp_path / "large.jpg", server.MOST_BYTES + 1)
    page.find_element("id", "file").send_keys(str(tmp_path / "large.jpg"))
    shown(page, "!document.getElementById('error').hidden")
    assert complaint(page) == "This file is too large: at most 16 MiB are read."


def test_the_camera_takes_a_picture_and_is_closed_again(page):
    page.refresh()
    page.find_element("id", "camera").click()
    shown(page, "document.getElementById('video').videoWidth")
    page.find_element("id", "shoot").click()
    shown(page, "document.querySelectorAll('.face').length === 2")
    assert not page.find_element("id", "video").is_displayed()
    assert page.execute_script("return document.getElementById('video').srcObject === null")


def test_a_camera_that_two_clicks_opened_is_off_once_it_is_closed(page):
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
    shown(page, "document.getElementById('video').videoWidth")
    page.find_element("id", "stop").click()
    assert page.execute_script("return window.opened.map((track) => track.readyState)") == ["ended"]


def test_the_keyboard_stays_on_the_camera_when_it_is_closed(page):
    page.refresh()
    page.find_element("id", "camera").send_keys(Keys.ENTER)
    shown(page, "document.activeElement.id === 'shoot'")
    page.find_element("id", "stop").send_keys(Keys.ENTER)
    assert page.execute_script("return document.activeElement.id") == "camera"


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (1100, True), (390, False)], ids=["desk", "dark", "phone"])
def test_the_page_fits_the_screen_and_its_readers_wish(page, width, dark):
    browser.emulate(page, width, dark)
    drop(page, encoded(photo()))
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    colour = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 128) == dark
    assert [entry for entry in page.get_log("browser") if "422" not in entry["message"]] == []


def test_every_control_and_picture_has_a_name(page):
    drop(page, encoded(photo()))
    for element in page.find_elements("css selector", "button, input, img, video"):
        assert element.accessible_name or not element.is_displayed(), element.get_attribute("outerHTML")
