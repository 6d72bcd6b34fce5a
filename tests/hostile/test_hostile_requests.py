"""Whatever anybody sends to `dsflow serve`, the answer is JSON, never a bug, and nothing runs that nobody asked for."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsflow.workspace import Workspace
from tests.conftest import build_tree
from tests.hostile.strategies import values, words
from tests.serving import JOBS, Served, serving
from tests.test_serve import ask, raw, token

HONEST = {"key": "x", "job": "quick", "ds": "2013-01-01", "parameters": {"city": "paris"}, "if_stale": True}
fuzzed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSFLOW_RUNTIME", "process")
        root = tmp_path_factory.mktemp("served") / "w"
        build_tree(root, {"dsflow.yml": "version: 1\n", **JOBS})
        (root / "datastore").mkdir()
        with serving(Workspace(root), "-j", "1") as running:
            # One run at a time, and this one does not end: what the tests below get accepted never begins.
            running.client.run("endless")
            yield running


def check(status: int, document: Any) -> None:
    assert status in (200, 202, 400, 401, 404, 405, 409, 413, 424, 429)
    if status >= 400:
        assert set(document) == {"error", "hint", "exit_code"}
        assert isinstance(document["error"], str)
        assert document["error"]
        assert document["exit_code"] != 70


@fuzzed
@given(body=st.binary(max_size=2000))
def test_bytes_as_a_body(served: Served, body: bytes) -> None:
    check(*ask(served, "POST", "/runs", body))


@fuzzed
@given(changes=st.dictionaries(st.sampled_from([*HONEST, "retries", "x"]), values, min_size=1, max_size=3))
def test_an_honest_request_with_something_else_in_it(served: Served, changes: dict[str, Any]) -> None:
    status, document = ask(served, "POST", "/runs", json.dumps({**HONEST, "key": None, **changes}).encode())
    check(status, document)
    if status == 202:
        assert document["job"] in {name.split("/")[1] for name in JOBS}
        assert served.client.cancel(document["id"])["status"] == "interrupted"


@fuzzed
@given(name=words, value=values)
def test_a_parameter_of_any_name_and_value(served: Served, name: str, value: Any) -> None:
    body = json.dumps({"job": "quick", "ds": "2013-01-01", "parameters": {name: value}}).encode()
    status, document = ask(served, "POST", "/runs", body)
    check(status, document)
    if status == 202:
        assert served.client.cancel(document["id"])["status"] == "interrupted"


@fuzzed
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    parts=st.lists(
        st.one_of(st.sampled_from(["runs", "events", "cancel", "health", "..", "%2e%2e"]), words), max_size=4
    ),
    query=words,
    position=words,
)
def test_any_address(served: Served, method: str, parts: list[str], query: str, position: str) -> None:
    if parts[-1:] == ["docs"]:
        return  # the one answer that is a page
    path = "/" + "/".join(urllib.parse.quote(part, safe="%", errors="surrogatepass") for part in parts)
    asked = f"{path}?{urllib.parse.quote(query, safe='=&', errors='surrogatepass')}"
    headers = {"Last-Event-ID": urllib.parse.quote(position, errors="surrogatepass")}
    check(*ask(served, method, asked, headers=headers))


@fuzzed
@given(text=st.binary(min_size=1, max_size=300))
def test_bytes_instead_of_a_request(served: Served, text: bytes) -> None:
    status, document = raw(served, b"\x00" + text + b"\r\n\r\n")
    check(status, document)
    assert status == 400


@fuzzed
@given(shown=st.one_of(words, st.binary(max_size=60).map(lambda text: text.decode("latin-1"))))
def test_anything_instead_of_the_token(served: Served, shown: str) -> None:
    kept = "".join(sign for sign in shown if "\x20" < sign < "\xff" and sign != "\x7f")
    if kept.removeprefix("Bearer ") != token(served):
        status, document = ask(served, "GET", "/runs", headers={"Authorization": kept}, with_token=False)
        check(status, document)
        assert status == 401


def test_after_all_that_nothing_but_the_first_run_has_begun(served: Served) -> None:
    assert served.answers()
    begun = [run for run in served.client.list(limit=1000) if run["run_ids"]]
    assert len(begun) <= 1
    assert list(served.workspace.datastore.glob("job_runs/quick/*")) == []
