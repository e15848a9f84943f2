"""A headless browser for tests, which skip where none is installed."""

import shutil

import pytest


def installed(*names):
    """The first of some programs that is there."""
    return next(filter(None, map(shutil.which, names)), None)


BROWSER = installed("chromium", "chromium-browser", "google-chrome")
DRIVER = installed("chromedriver", "chromium.chromedriver")
needs_browser = pytest.mark.skipif(None in (BROWSER, DRIVER), reason="no Chromium with its driver is installed")


def open_browser(downloads):
    """A Chromium, which keeps in the folder `downloads` what it downloads; the caller quits it."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,960"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
