"""The annotation pages in a real browser (Chromium through its WebDriver)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from annotation_study import Server, study

from tocsin.judges.annotate import Study, StudySettings
from tocsin.judges.elicitation import read_responses

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs Chromium and its driver (Debian: chromium, chromium-driver)",
)
pytest.importorskip("fastapi", reason="needs the extra 'serve'")

MARKUP = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "</pre><style>body{display:none}</style><iframe src=javascript:alert(1)></iframe>{{7*7}}"
)
REORDERING = "safe \u202egpj.exe\u202c \u2066x\u2069 \u200bzero\x00\x1b[31mred\x07\ud800\ufeff"
HUGE = ("a" * 500_000 + " <b>end</b> " + "\u4e2d" * 500_000)[:1_000_000]


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


class Site(NamedTuple):
    server: Server
    tokens: dict[str, str]
    folder: Path

    def enter(self, browser: Chrome, who: str) -> None:
        browser.delete_all_cookies()
        browser.get("about:blank")
        browser.get(f"{self.server.address}/#{self.tokens[who]}")
        until(lambda: bool(browser.find_elements("css selector", "nav")))
        problems(browser)


def opened(folder: Path, kept: Study) -> Site:
    names = ["anna", "ben", "carla", "dora", "owner"]
    tokens = {each.name: each.token for each in kept.add(names)}
    kept.close()
    return Site(Server(folder / "study"), tokens, folder / "study")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("pages")
    found = opened(folder, study(folder, 4))
    yield found
    found.server.end()


def until(true: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.05)


def problems(browser: Chrome) -> list[str]:
    """What the browser complains about: policy violations and script errors."""
    return [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]


def press(browser: Chrome, *keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def shown(browser: Chrome) -> bool:
    return browser.find_element("id", "prompt").is_displayed()


def test_the_link_enters_and_takes_the_token_out_of_the_address(browser: Chrome, site: Site) -> None:
    site.enter(browser, "anna")
    assert site.tokens["anna"] not in browser.current_url
    assert site.tokens["anna"] not in browser.page_source
    assert browser.execute_script("return document.cookie") == ""
    assert "0 of 4 ranked" in browser.find_element("tag name", "main").text
    assert problems(browser) == []


def test_a_whole_study_is_ranked_with_the_keyboard_alone(browser: Chrome, site: Site) -> None:
    from selenium.webdriver import Keys

    site.enter(browser, "anna")
    browser.find_element("id", "go").send_keys(Keys.ENTER)
    for number in range(1, 5):
        until(lambda number=number: browser.title == f"Item {number} of 4")  # type: ignore[misc]
        assert "minutes" not in browser.page_source, "nothing is loaded before it is asked for"
        press(browser, "a", "1")
        assert not browser.find_elements("css selector", "input:checked"), "unseen texts cannot be ranked"
        press(browser, "s")
        until(lambda: shown(browser))
        press(browser, Keys.ESCAPE)
        assert not shown(browser)
        assert "minutes" not in browser.find_element("tag name", "main").text
        press(browser, "s")
        until(lambda: shown(browser))
        press(browser, "3", "0", "1", Keys.ENTER)
    until(lambda: "All done" in browser.page_source)
    assert problems(browser) == []
    with Study(site.folder) as kept:
        tasks = [kept.task("anna", place) for place in range(1, 5)]
    assert [task.ranks for task in tasks if task is not None] == [(2, 0, 1)] * 4


def test_ties_and_gaps_cannot_be_saved_and_are_named(browser: Chrome, site: Site) -> None:
    site.enter(browser, "ben")
    browser.find_element("id", "go").click()
    press(browser, "s")
    until(lambda: shown(browser))
    save, state = browser.find_element("id", "save"), browser.find_element("id", "state")
    assert state.text == "Not ranked yet: A, B, C."
    press(browser, "2", "2", "0")
    assert state.text.startswith("A and B share rank 2.")
    assert not save.is_enabled()
    press(browser, "b", "1")
    assert save.is_enabled()


def test_letters_can_be_dragged(browser: Chrome, site: Site) -> None:
    from selenium.webdriver import ActionChains

    site.enter(browser, "carla")
    browser.get(f"{site.server.address}/item/2")
    browser.find_element("id", "show").click()
    until(lambda: shown(browser))
    for letter, rank in (("A", "2"), ("B", "1"), ("C", "0")):
        chip = browser.find_element("css selector", f".chip[data-letter={letter}]")
        slot = browser.find_element("css selector", f".slot[data-rank='{rank}']")
        ActionChains(browser).drag_and_drop(chip, slot).perform()
    chosen = [each.get_attribute("value") for each in browser.find_elements("css selector", "input:checked")]
    assert chosen == ["2", "1", "0"]
    browser.find_element("id", "save").click()
    until(lambda: browser.title == "Item 3 of 4")
    with Study(site.folder) as kept:
        task = kept.task("carla", 2)
    assert task is not None
    assert task.ranks == (2, 1, 0)


def test_pausing_ends_the_session_and_the_link_resumes_at_the_next_open_item(
    browser: Chrome, site: Site
) -> None:
    site.enter(browser, "dora")
    browser.find_element("id", "go").click()
    press(browser, "x")
    until(lambda: browser.title == "Item 2 of 4")
    browser.find_element("css selector", "nav button").click()
    until(lambda: "Paused" in browser.page_source)
    browser.get(f"{site.server.address}/item/2")
    assert browser.find_elements("id", "token"), "the session is over"
    site.enter(browser, "dora")
    assert browser.find_element("id", "go").text == "Go on with item 2"


def test_a_ranking_waits_for_a_server_that_is_away_and_is_kept_once(browser: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver import Keys

    site = opened(tmp_path, study(tmp_path, 4))
    site.enter(browser, "anna")
    browser.find_element("id", "go").click()
    press(browser, "s")
    until(lambda: shown(browser))
    site.server.end()
    press(browser, "1", "2", "0", Keys.ENTER)
    until(lambda: "Not saved yet" in browser.find_element("id", "state").text)
    again = Server(site.folder, site.server.port)
    until(lambda: browser.title == "Item 2 of 4")
    again.end()
    problems(browser)
    with Study(site.folder) as kept:
        assert kept.n_submissions() == 1
        assert kept.states("anna")[0] == "ranked"


@pytest.mark.parametrize("text", [MARKUP, REORDERING, HUGE], ids=["markup", "reordering", "huge"])
def test_hostile_text_is_inert(browser: Chrome, tmp_path: Path, text: str) -> None:
    rows = [
        {"item": "x", "model": f"m{i}", "prompt": text, "response": text, "group": text[:20]}
        for i in range(3)
    ]
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "ascii")
    settings = StudySettings(title=MARKUP[:200], guidance=MARKUP + REORDERING.replace("\ud800", ""))
    site = opened(tmp_path, Study.create(tmp_path / "study", read_responses(path), settings))
    try:
        site.enter(browser, "anna")
        assert "<script>" in browser.find_element("css selector", ".guidance").text
        browser.get(f"{site.server.address}/item/1")
        press(browser, "s")
        until(lambda: shown(browser), 60)
        found = browser.find_elements("css selector", ".content")
        assert len(found) == 4
        length = browser.execute_script("return document.getElementById('prompt').textContent.length")
        assert length >= len(text)
        assert browser.title == "Item 1 of 1"
        assert (
            browser.find_elements("css selector", "main img, main script, iframe, main style, main b b") == []
        )
        assert browser.execute_script(
            "return document.documentElement.scrollWidth"
        ) <= browser.execute_script("return window.innerWidth")
        if text == REORDERING:
            words = found[0].text
            assert "[U+202E]gpj.exe[U+202C]" in words
            assert all(f"[U+{code}]" in words for code in ("200B", "0000", "001B", "0007", "D800", "FEFF"))
        # The page still works.
        press(browser, "1", "2", "0")
        assert browser.find_element("id", "save").is_enabled()
        assert problems(browser) == []
    finally:
        site.server.end()


def test_the_owner_watches_agreement(browser: Chrome, tmp_path: Path) -> None:
    site = opened(tmp_path, study(tmp_path, 4))
    try:
        site.enter(browser, "owner")
        assert "Nothing to compare yet" in browser.page_source
        with Study(site.folder) as kept:
            for who in ("anna", "ben"):
                for place in range(1, 5):
                    task = kept.task(who, place)
                    assert task is not None
                    rank = {"small-a": 2, "small-b": 1, "small-c": 0}
                    texts = zip("ABC", task.responses, strict=True)
                    given = {letter: rank[each.split()[0]] for letter, each in texts}
                    kept.submit(who, place, f"key-{place:04}", given)
        browser.refresh()
        cells = [
            cell.text for cell in browser.find_elements("css selector", "section:nth-of-type(2) tbody td")
        ]
        assert cells[:3] == ["anna", "ben", "4"]
        assert cells[3].startswith("1.00")
        assert problems(browser) == []
    finally:
        site.server.end()


@pytest.mark.parametrize("width", [360, 1400])
def test_pages_fit_the_window(browser: Chrome, site: Site, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    site.enter(browser, "carla")
    for path in ("/", "/item/1"):
        browser.get(f"{site.server.address}{path}")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    site.enter(browser, "owner")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
