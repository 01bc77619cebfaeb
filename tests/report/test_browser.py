"""The page in a real browser (Chromium through its WebDriver)."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up import hostile_rows, hostile_run, row, rows, run

from tocsin.report import write_html_report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs Chromium and its driver (Debian: chromium, chromium-driver)",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    pytest.importorskip("selenium", reason="needs the extra 'test'")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    yield driver
    driver.quit()


class Site:
    """Serves given pages on the loopback interface and writes down every request."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                body = site.pages.get(self.path, b"")
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Keep test output quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()
    yield served
    served.server.shutdown()
    served.server.server_close()


def open_report(browser: Chrome, path: Path) -> None:
    browser.get(path.as_uri())


def problems(browser: Chrome) -> list[str]:
    """What the browser complains about: policy violations and script errors."""
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]


def test_hostile_names_stay_inert_and_details_open(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, hostile_run(), hostile_rows(), include_text=True)
    open_report(browser, path)
    details = browser.find_element("css selector", "#findings details")
    text = details.find_element("tag name", "pre")
    assert not text.is_displayed()
    details.find_element("tag name", "summary").click()
    assert text.is_displayed()
    assert "<script>document.title='owned'</script>" in text.text
    assert browser.title == "3 of 4 items flagged · Tocsin scan"
    assert browser.find_elements("css selector", "img, iframe, object, body script + script") == []
    assert problems(browser) == []


def test_page_asks_the_network_for_nothing(browser: Chrome, tmp_path: Path, site: Site) -> None:
    target = f"{site.address}/lure"
    lure = f'<img src="{target}"><link rel=stylesheet href="{target}"> url({target})'
    path = tmp_path / "report.html"
    write_html_report(
        path,
        run(input_name=lure),
        [row(0, path=lure, category=lure, rationale=lure, text={"text": lure})],
        include_text=True,
    )
    site.pages = {"/report": path.read_bytes(), "/control": lure.encode()}
    browser.get(f"{site.address}/report")
    # A browser asks every server for its icon; that is not the page's doing.
    assert [path for path in site.asked if path != "/favicon.ico"] == ["/report"]
    browser.get(f"{site.address}/control")
    assert "/lure" in site.asked, "the lure must work where nothing is escaped"
    problems(browser)


def test_a_script_that_got_into_the_page_would_not_run(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, run(), [row(0)])
    source = path.read_text("utf-8")
    path.write_text(source.replace("</main>", "<script>document.title='owned'</script></main>"), "utf-8")
    open_report(browser, path)
    assert browser.title != "owned"
    assert any("Content Security Policy" in message for message in problems(browser))


def test_columns_sort_by_click_and_rows_filter(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, run(), rows(400))
    open_report(browser, path)

    def scores() -> list[float]:
        cells = browser.find_elements("css selector", "#findings-table td.score")
        return [float(cell.text) for cell in cells if cell.is_displayed()]

    assert scores() == sorted(scores(), reverse=True)
    browser.find_element("css selector", "#findings-table th button").click()
    assert scores() == sorted(scores())
    assert len(scores()) > 10
    browser.find_element("id", "findings-filter").send_keys("surveillance")
    assert 0 < len(scores()) < 15
    assert problems(browser) == []


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_is_wider_than_the_window(browser: Chrome, tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, hostile_run(), [*hostile_rows(), *rows(100, planes=True)], include_text=True)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    open_report(browser, path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_page_is_complete_without_scripts(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, run(), [row(0, text={"text": "placeholder"})], include_text=True)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    open_report(browser, path)
    browser.find_element("css selector", "#findings summary").click()
    assert browser.find_element("css selector", "#findings pre").text == "placeholder"
    assert browser.find_elements("css selector", "th button") == []
    assert not browser.find_element("id", "findings-filter").is_displayed()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    problems(browser)
