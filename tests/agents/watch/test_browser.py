"""The page in a real browser, served by the command itself."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acis_env.datasets import Leaves
from agents.models.agent import Agent
from tests.browser import needs_browser, open_browser

webdriver = pytest.importorskip("selenium.webdriver")
waiting = pytest.importorskip("selenium.webdriver.support.ui")
pytest.importorskip("agents.watch.server")

pytestmark = needs_browser
ROOT = Path(__file__).parents[3]
PATIENCE = 120
"""Seconds until an answer has to be there, on a machine that does other things, too."""


@pytest.fixture(scope="module")
def address():
    """Where `acis watch` serves leaves-64, as a process of its own."""
    command = [sys.executable, "-m", "agents.commands", "watch", "--agent", "leaves-64", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        process.send_signal(signal.SIGINT)
    assert process.returncode == 128 + signal.SIGINT


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """Where the browser keeps what it downloads."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads):
    """A headless browser."""
    driver = open_browser(downloads)
    yield driver
    driver.quit()


class Reader:
    """What a person sees and does on the page."""

    def __init__(self, browser):
        self.browser = browser

    def find(self, name):
        return self.browser.find_element("id", name)

    def wait(self, condition):
        return waiting.WebDriverWait(self.browser, PATIENCE).until(lambda _: condition())

    def wait_for(self, name, pattern):
        self.wait(lambda: re.search(pattern, self.find(name).text))

    def kinds(self):
        """Kinds of all candidates, read at once, since the page may be drawing them anew."""
        return self.browser.execute_script(
            "return [...document.querySelectorAll('[data-kind]')].map(c => c.dataset.kind)"
        )


def test_a_picture_is_uploaded_played_to_the_end_undone_and_exported(address, browser, downloads, tmp_path):
    agent = Agent.load("leaves-64")
    picture = np.ascontiguousarray(Leaves("test", (64, 64))[9].image.transpose(1, 2, 0).repeat(2, 0).repeat(2, 1))
    expected = agent.segment(picture)
    Image.fromarray(picture).save(tmp_path / "plant.png")
    (tmp_path / "notes.png").write_text("no picture")

    browser.get(address)
    page = Reader(browser)
    page.wait_for("truth", r"Potential 0\.000 of \d+ instances")  # a scene is shown at once
    page.find("file").send_keys(str(tmp_path / "notes.png"))
    page.wait_for("error", "^notes.png cannot be opened as a picture")
    page.find("file").send_keys(str(tmp_path / "plant.png"))
    page.wait_for("truth", "The truth is not known here")
    assert page.find("error").text == ""
    assert not page.find("undo").is_enabled()

    page.find("finish").click()
    page.wait_for("state", rf"^{len(expected)} of at most 10 masks")
    page.find("undo").click()
    page.wait_for("state", rf"^{len(expected) - 1} of at most 10 masks; the agent would go on")
    page.find("accept").click()
    page.wait_for("state", rf"^{len(expected)} of at most 10 masks")

    page.find("label_map").click()
    file = downloads / "label_map.png"
    page.wait(file.exists)
    assert np.array_equal(np.array(Image.open(file)), expected.label_map)


def test_a_second_click_does_not_accept_a_mask_that_nobody_has_seen(address, browser):
    browser.get(address)
    page = Reader(browser)
    page.wait_for("truth", "Potential")
    browser.execute_script("accept.click(); accept.click(); undo.click();")
    page.wait_for("state", "^0 of at most 10 masks")  # by the one undo, which comes after all clicks before it
    page.find("accept").click()
    page.wait_for("state", "^1 of at most 10 masks")


def test_a_click_and_a_slider_offer_masks_of_which_the_chosen_one_is_accepted(address, browser):
    scene = Leaves("test", (64, 64))[9]
    browser.get(address)
    page = Reader(browser)
    page.wait_for("truth", "Potential")
    before = page.find("picture").get_attribute("src")
    page.find("scene").clear()
    page.find("scene").send_keys("9")
    page.find("show").click()
    page.wait(lambda: page.find("picture").get_attribute("src") != before)

    shown = page.find("picture")
    y, x = (np.median(places) / 64 - 0.5 for places in np.nonzero(scene.label_map == scene.num_instances))
    offset = round(x * shown.size["width"]), round(y * shown.size["height"])
    webdriver.ActionChains(browser).move_to_element_with_offset(shown, *offset).click().perform()
    page.wait(lambda: page.kinds()[-1:] == ["asked for"])

    slider = browser.find_element("css selector", "#sliders input")
    slider.send_keys(webdriver.Keys.ARROW_RIGHT * 5)
    page.wait(lambda: page.kinds()[-2:] == ["asked for", "nudged"])
    page.find("accept").click()
    page.wait_for("state", "^1 of at most 10 masks")
    reward = float(browser.find_elements("css selector", "#steps td")[1].text)
    assert reward > 0.5
