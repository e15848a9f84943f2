"""The site's own search, in a browser: whoever knows Gymnasium finds the answer first."""

import http.server
import importlib
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.browser import needs_browser, open_browser

waiting = pytest.importorskip("selenium.webdriver.support.ui")
build = pytest.importorskip("mkdocs.commands.build").build

pytestmark = needs_browser
ROOT = Path(__file__).parents[1]
PATIENCE = 60
"""Seconds until an answer has to be there, on a machine that does other things, too."""
OPEN = "document.querySelector('[data-md-toggle=search]').click()"
FIRST_RESULT = """
const first = document.querySelector(".md-search-result__item");
return first ? [...first.querySelectorAll("h1, h2")].slice(0, 2).map(heading => heading.textContent) : [];
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the site is served."""
    folder = tmp_path_factory.mktemp("site")
    build(importlib.import_module("mkdocs.config").load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless browser."""
    driver = open_browser(tmp_path_factory.mktemp("downloads"))
    yield driver
    driver.quit()


@pytest.mark.parametrize(
    ("question", "page", "section"),
    [
        ("how is a step computed", "FAQ", "How is a step computed?"),
        ("final_obs", "ACIS environments", "The last observation: final_obs"),
        ("use my own images", "FAQ", "How do I use my own images?"),
        ("add an agent to the leaderboard", "Leaderboard", "Add your own agent"),
    ],
)
def test_what_a_reader_asks_is_answered_first(address, browser, question, page, section):
    browser.get(address)
    browser.execute_script(OPEN)
    entry = browser.find_element("css selector", "input.md-search__input")
    wait = waiting.WebDriverWait(browser, PATIENCE)
    wait.until(lambda _: entry.is_displayed())
    entry.send_keys(question)
    wait.until(
        lambda _: browser.execute_script(FIRST_RESULT) == [page, section],
        f"expected {page}, {section} as the first result for {question!r}",
    )
