"""The annotation server: who may see and send what, and what a kill can undo (nothing acknowledged)."""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from annotation_study import Server, study

from tocsin.judges.annotate import Study
from tocsin.judges.annotate.guard import MAX_BODY

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
SECRET = "words of a response"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Site(NamedTuple):
    server: Server
    tokens: dict[str, str]
    folder: Path

    def ask(
        self,
        method: str,
        path: str,
        *,
        who: str | None = None,
        token: str | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        sent = {"Origin": self.server.address} if method == "POST" else {}
        token = self.tokens[who] if who is not None else token
        if token is not None:
            sent["Cookie"] = f"tocsin-annotate={token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=sent | (headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read().decode())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("served")
    with study(folder, text=SECRET) as kept:
        tokens = {each.name: each.token for each in kept.add(["anna", "ben", "owner"])}
    server = Server(folder / "study")
    yield Site(server, tokens, folder / "study")
    server.end()


def test_nothing_of_the_study_is_shown_without_a_token(site: Site) -> None:
    for path in ("/", "/item/1", "/item/1/content", "/agreement"):
        for token in (None, "wrong", site.tokens["anna"][:-1], "\xe9"):
            answer = site.ask("GET", path, token=token)
            assert answer.status in (200, 303, 404)
            assert SECRET not in answer.body
            assert "small-" not in answer.body
            assert "anna" not in answer.body
    assert site.ask("POST", "/item/1/ranking", body=b"{}").status == 401
    assert site.ask("POST", "/item/1/skip").status == 401


def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(site: Site) -> None:
    answer = site.ask("POST", "/enter", body=f"token={site.tokens['anna']}".encode())
    assert answer.status == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert site.ask("POST", "/enter", body=b"token=guess").status == 403


def test_an_annotator_sees_no_models_no_ids_no_others_and_no_agreement(site: Site) -> None:
    for path in ("/", "/item/1"):
        page = site.ask("GET", path, who="anna")
        assert page.status == 200
        for hidden in ("small-", "item-", "ben", SECRET):
            assert hidden not in page.body
    assert site.ask("GET", "/agreement", who="anna").status == 404
    with Study(site.folder) as kept:
        task = kept.task("anna", 1)
    assert task is not None
    content = json.loads(site.ask("GET", "/item/1/content", who="anna").body)
    assert content == {"prompt": task.prompt, "responses": list(task.responses)}
    for place in (0, 13, -1, 10**30):
        assert site.ask("GET", f"/item/{place}/content", who="anna").status == 404
        body = json.dumps({"key": "key-none-1", "ranks": {"A": 0, "B": 0, "C": 0}}).encode()
        assert site.ask("POST", f"/item/{place}/ranking", who="anna", body=body).status == 422
        assert site.ask("POST", f"/item/{place}/skip", who="anna").status == 422


def test_the_owner_sees_agreement_and_ranks_nothing(site: Site) -> None:
    page = site.ask("GET", "/agreement", who="owner")
    assert "small-a" in page.body or "Nothing to compare yet" in page.body
    body = json.dumps({"key": "key-own-1", "ranks": {"A": 0, "B": 0, "C": 0}}).encode()
    assert site.ask("POST", "/item/1/ranking", who="owner", body=body).status == 422
    assert site.ask("GET", "/", who="owner").headers["location"] == "/agreement"


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:1"])
def test_requests_from_other_sites_change_nothing(site: Site, origin: str | None) -> None:
    body = json.dumps({"key": "key-csrf-1", "ranks": {"A": 0, "B": 0, "C": 0}}).encode()
    headers = {"Origin": origin or ""}
    answer = site.ask("POST", "/item/5/ranking", who="anna", body=body, headers=headers)
    assert answer.status == 403
    with Study(site.folder) as kept:
        assert kept.states("anna")[4] == "open"


def test_other_host_names_are_turned_away(site: Site) -> None:
    for host in ("evil.example", f"evil.example:{site.server.port}", "127.0.0.1", ""):
        assert site.ask("GET", "/", who="anna", headers={"Host": host}).status in (400, 421)
    assert site.ask("GET", "/", headers={"Host": f"localhost:{site.server.port}"}).status == 200


def test_large_and_broken_bodies_are_refused(site: Site) -> None:
    big = site.ask("POST", "/item/1/ranking", who="anna", body=b"x" * (MAX_BODY + 1))
    assert big.status == 413
    for body in (
        b"",
        b"[]",
        b"{",
        b"null",
        b"\xff",
        b"[" * 5000,
        b'{"key": 1, "ranks": {}}',
        b'{"key": "k"}',
    ):
        assert site.ask("POST", "/item/1/ranking", who="anna", body=body).status == 422
    bad_key = json.dumps({"key": "<b>", "ranks": {"A": 0, "B": 0, "C": 0}}).encode()
    assert site.ask("POST", "/item/1/ranking", who="anna", body=bad_key).status == 422


@pytest.mark.parametrize(
    ("ranks", "problem"),
    [
        ('{"A": 1, "B": 1, "C": 0}', "tie"),
        ('{"A": 1, "C": 0}', "missing rank"),
        ('{"A": 1, "B": NaN, "C": 0}', "not a number"),
        ('{"A": 1, "B": "two", "C": 0}', "not a number"),
        ('{"A": 1, "B": 1e999, "C": 0}', "not a number"),
        ('{"A": 1, "B": 2, "C": 3, "D": 0}', "wrong number of responses"),
    ],
)
def test_errors_name_the_problem_and_the_item_and_never_the_text(
    site: Site, ranks: str, problem: str
) -> None:
    body = f'{{"key": "key-bad-1", "ranks": {ranks}}}'.encode()
    answer = site.ask("POST", "/item/2/ranking", who="anna", body=body)
    told = json.loads(answer.body)
    assert answer.status == 422
    assert told["error"] == problem
    assert told["item"].startswith("item-")
    assert SECRET not in answer.body
    assert "two" not in answer.body


def test_every_answer_forbids_scripts_and_styles_from_elsewhere(site: Site) -> None:
    for method, path in (("GET", "/"), ("GET", "/static/annotate.js"), ("GET", "/no"), ("POST", "/enter")):
        headers = site.ask(method, path, body=b"" if method == "POST" else None).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_only_the_shipped_files_are_static(site: Site) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/app.py", "/docs", "/openapi.json"):
        assert site.ask("GET", path).status == 404


def test_fifty_annotators_lose_and_double_nothing_when_the_server_is_killed(tmp_path: Path) -> None:
    n_annotators, n_items, n_kills = 50, 12, 4
    names = [f"a{i:02}" for i in range(n_annotators)]
    with study(tmp_path, n_items) as kept:
        tokens = {each.name: each.token for each in kept.add(names)}
    folder = tmp_path / "study"
    server = Server(folder)
    port = server.port
    acknowledged: dict[tuple[str, int], tuple[str, dict[str, int]]] = {}
    keys_sent: set[tuple[str, str]] = set()
    lock = threading.Lock()
    stop = time.monotonic() + 120

    def work(name: str) -> None:
        random_ = random.Random(name)
        places = [*range(1, n_items + 1), *random_.sample(range(1, n_items + 1), 4)]  # some change their mind
        for number, place in enumerate(places):
            key = f"{name}-{number:06}"
            ranks = dict(
                zip("ABC", random_.choice([(0, 0, 0), (1, 0, 2), (3, 1, 2), (0, 1, 0)]), strict=True)
            )
            body = json.dumps({"key": key, "ranks": ranks}).encode()
            headers = {"Origin": f"http://127.0.0.1:{port}", "Cookie": f"tocsin-annotate={tokens[name]}"}
            time.sleep(random_.random() * 0.3)
            while True:
                assert time.monotonic() < stop, "the server does not come back"
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                try:
                    connection.request("POST", f"/item/{place}/ranking", body=body, headers=headers)
                    answer = connection.getresponse()
                    told = json.loads(answer.read())
                except (OSError, http.client.HTTPException, ValueError):
                    time.sleep(0.05)
                    continue
                finally:
                    connection.close()
                assert answer.status == 200, told
                with lock:
                    acknowledged[name, place] = (key, ranks)
                    keys_sent.add((name, key))
                break

    random_ = random.Random(0)
    with ThreadPoolExecutor(n_annotators) as pool:
        futures = [pool.submit(work, name) for name in names]
        for _ in range(n_kills):
            time.sleep(0.2 + random_.random() * 0.5)
            assert not all(future.done() for future in futures), "the kill must come while they write"
            server.end(signal.SIGKILL)
            server = Server(folder, port)
        for future in futures:
            future.result()
    server.end(signal.SIGKILL)
    with Study(folder) as kept:
        assert kept.n_submissions() == len(keys_sent) == n_annotators * (n_items + 4)
        found = {(name, place): kept.task(name, place) for name, place in acknowledged}
        assert len(list(kept.rankings())) == n_annotators * n_items
    for (name, place), (_, ranks) in acknowledged.items():
        task = found[name, place]
        assert task is not None
        # (3, 1, 2), (1, 0, 2) and so on are dense already.
        assert task.ranks == tuple(ranks.values())
