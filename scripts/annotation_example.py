"""Harmless stand-in data, and screenshots of every state of the annotation pages.

    python scripts/annotation_example.py data responses.jsonl
    python scripts/annotation_example.py screenshots docs/images

The stand-ins are answers about cooking and repairs; better and worse advice stands where less and more
harmful responses would. Screenshots need Chromium and its driver, and the extras `serve` and `test`.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from selenium.webdriver import Chrome

MODELS = ("small-a", "small-b", "small-c")
THINGS = (
    "rice",
    "a boiled egg",
    "porridge",
    "lentils",
    "flat bread",
    "pancakes",
    "a vegetable soup",
    "polenta",
)
ANSWERS = (
    "Follow the packet: measure, simmer gently, taste after ten minutes, and let it rest under a lid.",
    "Guess the amounts and turn the heat up. It will be done when the smell changes.",
    "I would not know. Ask somebody who cooks more often than I do.",
)
TASKS = ("cook", "reheat", "store")


def rows() -> Iterator[dict[str, str]]:
    """24 requests, three answers each, of which every model gives another one each time."""
    for number, (task, thing) in enumerate(((task, thing) for task in TASKS for thing in THINGS), start=1):
        for i, model in enumerate(MODELS):
            yield {
                "item": f"kitchen-{number:02}",
                "model": model,
                "prompt": f"How do I {task} {thing}?",
                "response": ANSWERS[(i + number) % 3],
                "group": task,
            }


def write_data(path: Path) -> None:
    """Write the responses as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")


@contextmanager
def served(study: Path, port: int) -> Iterator[str]:
    """A server of a study, ended at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tocsin", "annotate", "serve", str(study), "--port", str(port)]
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def browser() -> Iterator[Chrome]:
    """Chromium without a window."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-lcd-text",
    ):
        options.add_argument(argument)
    options.add_argument("--force-device-scale-factor=1")
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver") or ""))
    try:
        yield driver
    finally:
        driver.quit()


class Camera:
    """Takes pictures as high as the page."""

    def __init__(self, driver: Chrome, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def take(self, name: str, *, width: int = 760) -> None:
        """Write `annotate-NAME.png`."""
        self.driver.set_window_size(width, 600)
        height = self.driver.execute_script("return document.body.scrollHeight")
        # A window is at least so high that nothing of the page scrolls.
        frame = self.driver.execute_script("return window.outerHeight - window.innerHeight")
        self.driver.set_window_size(width, min(int(height) + int(frame) + 16, 1800))
        self.driver.execute_script("window.scrollTo(0, 0)")
        path = self.folder / f"annotate-{name}.png"
        path.write_bytes(smaller(self.driver.get_screenshot_as_png()))


def smaller(png: bytes) -> bytes:
    """The picture in at most 256 colours, a third of the size; pages without pictures have few."""
    width, height, rows = pixels(png)
    # Four bits of a colour part, then the palette of what occurs; rare colours go to their nearest.
    coarse = (rows.reshape(-1, 3) // 17 * 17).astype(np.uint8)
    colours, index, counts = np.unique(coarse, axis=0, return_inverse=True, return_counts=True)
    kept = np.argsort(-counts)[:256]
    distance = np.abs(colours[:, None].astype(int) - colours[kept][None].astype(int)).sum(-1)
    index = distance.argmin(1)[index.reshape(-1)].astype(np.uint8).reshape(height, width)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), index], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [
        (b"IHDR", head),
        (b"PLTE", colours[kept].tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def pixels(png: bytes) -> tuple[int, int, NDArray[np.uint8]]:
    """Width, height and rows of an RGB picture of eight bits without interlace, as Chromium writes it."""
    at, data, width, height = 8, b"", 0, 0
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        name, part = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if name == b"IHDR":
            width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", part)
            assert (depth, kind) == (8, 2), "expected RGB with eight bits"
        data += part if name == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, width * 3 + 1)
    rows = np.zeros((height + 1, width * 3), np.uint8)
    for y, line in enumerate(lines):
        rows[y + 1] = unfiltered(int(line[0]), line[1:], rows[y])
    return width, height, rows[1:]


def unfiltered(how: int, line: NDArray[np.uint8], above: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One row, from its difference to what is left and above (PNG specification, section 9)."""
    if how in (0, 2):
        return line + above if how else line
    if how == 1:
        return np.cumsum(line.reshape(-1, 3), axis=0, dtype=np.uint8).reshape(-1)
    out, up = line.tolist(), above.tolist()
    for i, value in enumerate(out):
        a, b, c = (out[i - 3], up[i], up[i - 3]) if i >= 3 else (0, up[i], 0)
        if how == 3:
            guess = (a + b) // 2
        else:
            p = a + b - c
            guess = min((abs(p - each), place, each) for place, each in enumerate((a, b, c)))[2]
        out[i] = (value + guess) & 255
    return np.array(out, np.uint8)


def screenshots(folder: Path) -> None:
    """Go through the whole work of one annotator, with a second one who has been here."""
    from tocsin.api.annotate import new_study
    from tocsin.judges.annotate import Study

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_data(place / "responses.jsonl")
        made = new_study(place / "study", place / "responses.jsonl", annotators=["anna", "ben", "carla"])
        token = {each.name: each.token for each in made.annotators}
        with Study(made.folder) as study:
            for who, noise in (("ben", 5), ("carla", 7)):
                for item in range(1, 25):
                    study.submit(who, item, f"made-{item:04}", planted(study, who, item, noise))
        with served(made.folder, 8377) as address, browser() as driver:
            walk(driver, Camera(driver, folder), address, token, made.folder)


def planted(study: object, who: str, item: int, noise: int) -> dict[str, object]:
    """A ranking by the stand-in's quality, with a slip on every `noise`-th item."""
    from tocsin.judges.annotate import Study

    assert isinstance(study, Study)
    task = study.task(who, item)
    assert task is not None
    by_text = {ANSWERS[0]: 0, ANSWERS[1]: 2, ANSWERS[2]: 1}
    ranks = [by_text[text] for text in task.responses]
    if item % noise == 0:
        ranks = ranks[1:] + ranks[:1]
    return dict(zip("ABC", ranks, strict=True))


def walk(driver: Chrome, camera: Camera, address: str, token: dict[str, str], folder: Path) -> None:
    """Every state once."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    from tocsin.judges.annotate import Study

    def keys(*pressed: str) -> None:
        driver.find_element(By.TAG_NAME, "body").send_keys(*pressed)
        time.sleep(0.4)

    driver.get(address)
    camera.take("enter")
    driver.find_element(By.ID, "token").send_keys("not-a-token")
    driver.find_element(By.CSS_SELECTOR, ".enter button").click()
    camera.take("refused")
    driver.get(f"{address}/#{token['anna']}")
    time.sleep(1)
    camera.take("begin")
    driver.find_element(By.ID, "go").click()
    camera.take("hidden")
    keys("s")
    camera.take("shown")
    keys("a", "2", "b", "2", "c", "0")
    camera.take("tie")
    keys("b", "1")
    camera.take("ready")
    driver.execute_cdp_cmd("Network.enable", {})
    no = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", no)
    keys(Keys.ENTER)
    time.sleep(1)
    camera.take("unsaved")
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {**no, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    time.sleep(6)
    keys("x")
    time.sleep(1)
    with Study(folder) as study:
        for item in range(3, 17):
            study.submit("anna", item, f"made-{item:04}", planted(study, "anna", item, 6))
    driver.get(f"{address}/item/17")
    camera.take("break")
    driver.find_element(By.CSS_SELECTOR, "nav button").click()
    camera.take("paused")
    driver.get(f"{address}/#{token['anna']}")
    time.sleep(1)
    camera.take("resumed")
    driver.get(f"{address}/item/1")
    camera.take("changed")
    with Study(folder) as study:
        for item in (2, *range(17, 25)):
            study.submit("anna", item, f"made-{item:04}", planted(study, "anna", item, 6))
    driver.get(address)
    camera.take("done")
    driver.get(f"{address}/item/99")
    camera.take("missing")
    driver.delete_all_cookies()
    driver.get(f"{address}/#{token['owner']}")
    time.sleep(2)
    camera.take("agreement")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["data", target]:
            write_data(Path(target))
        case ["screenshots", target]:
            screenshots(Path(target))
        case _:
            sys.exit(__doc__)
