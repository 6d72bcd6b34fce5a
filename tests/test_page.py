"""The page of a run: what it shows, that it escapes everything, and that it asks for nothing."""

from __future__ import annotations

import dataclasses
import enum
import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dsflow import page
from dsflow.highlighting import source
from dsflow.model import Check, Column, Outcome, Published, Status, Task
from tests.samples import failed_outcome, sample_outcome, sample_task
from tests.services import need

HOSTILE = """<script>document.title='owned'</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}</pre></details>"""


class _Text(HTMLParser):
    """Collects what a reader sees, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def seen(html: str) -> str:
    """Give the text of a page, one space between words."""
    parser = _Text()
    parser.feed(html)
    assert parser.open == []
    return " ".join(" ".join(parser.words).split())


def rendered(task: Task | None = None, outcome: Outcome | None = None, body: str = "", log: str = "") -> str:
    return page.render(task or sample_task(), sample_outcome() if outcome is None else outcome, body, log)


def test_the_header_says_what_ran_and_how_it_went() -> None:
    text = seen(rendered())
    assert "create-table-rain ds=2026-11-20 succeeded Rain per hour in Paris" in text
    assert "Took 4.2s Rows written 26,115 Started 2026-11-20 04:35:12 UTC" in text
    assert "Run 20261120T043512-3f9a1c" in text


def test_inputs_are_shown_by_partition_hash_and_size() -> None:
    assert "raw raw/weather 2026-11-20 48.2 kB c0ffeec0ffee" in seen(rendered())


def test_outputs_are_shown_with_rows_bytes_and_schema() -> None:
    text = seen(rendered())
    assert "tables/fct_rain/ds=2026-11-20 26,115 rows, 188.4 kB in 1 file" in text
    assert "2 columns Column Type hour INTEGER rain DOUBLE" in text


def test_schema_changes_are_marked_by_what_they_are() -> None:
    changes = ("- wind DOUBLE", "+ rain DOUBLE", "~ hour VARCHAR -> INTEGER")
    published = dataclasses.replace(sample_outcome().outputs[0], schema_changes=changes)
    html = rendered(outcome=sample_outcome(outputs=(published,)))
    assert "The schema differs from ds=2026-11-19" in seen(html)
    assert re.findall(r'<li class="(\w+)">([^<]*)', html) == [
        ("removed", "wind DOUBLE"),
        ("added", "rain DOUBLE"),
        ("changed", "hour VARCHAR -&gt; INTEGER"),
    ]


def test_raw_files_have_no_rows_and_no_schema() -> None:
    manifest = sample_outcome().outputs[0].manifest
    files = tuple(dataclasses.replace(file, rows=None) for file in manifest.files)
    raw = dataclasses.replace(manifest, store="raw", name="weather", files=files, columns=())
    text = seen(rendered(outcome=sample_outcome(outputs=(Published(manifest=raw),))))
    assert "raw/weather/ds=2026-11-20 188.4 kB in 1 file" in text
    assert "Rows written" not in text
    assert "column" not in text


def test_each_check_has_a_verdict() -> None:
    checks = (
        Check(name="a", constraint="x > 0", action="fail", rows=1000, violations=0),
        Check(name="b", constraint="y > 0", action="drop", rows=1000, violations=12),
        Check(name="c", constraint="z > 0", action="allow", rows=1000, violations=3),
        Check(name="d", constraint="w > 0", action="fail", rows=1000, violations=1),
    )
    text = seen(rendered(outcome=sample_outcome(checks=checks)))
    assert "a x > 0 1,000 0 passed b y > 0 1,000 12 rows dropped" in text
    assert "c z > 0 1,000 3 rows allowed d w > 0 1,000 1 failed" in text


def test_a_check_shows_its_limit_what_was_found_and_some_of_the_rows() -> None:
    row = "hour=3 note=<b>bold</b>"
    checks = (
        Check(name="a", constraint="x > 0", action="fail", rows=1000, violations=5, limit=10),
        Check(
            name="b", constraint="y > 0", action="fail", rows=1000, violations=12, limit=10, examples=(row, "hour=4")
        ),
        Check(
            name="c",
            constraint="count(*) > 5",
            action="allow",
            rows=2,
            violations=1,
            per="partition",
            found="count(*) = 2",
        ),
    )
    html = rendered(outcome=sample_outcome(checks=checks))
    text = seen(html)
    assert "a x > 0 1,000 5 of at most 10 within its limit b y > 0 1,000 12 of at most 10 failed" in text
    assert "c count(*) > 5 count(*) = 2 2 allowed" in text
    assert "2 of the rows that broke b" in text
    assert "<b>bold" not in html


def test_rows_that_were_set_aside_are_named() -> None:
    published = dataclasses.replace(sample_outcome().outputs[0], quarantined=12)
    assert "12 more in fct_rain__quarantine" in seen(rendered(outcome=sample_outcome(outputs=(published,))))


def test_what_it_was_made_with_is_shown() -> None:
    text = seen(rendered())
    assert "Runtime docker (a Docker engine answers)" in text
    assert "Image dsflow/python Image digest sha256:9b1c0f7d2a4e Git revision 4f2a9d1c7e dsflow 1.0.0" in text
    assert "Host ada@laptop" in text


def test_parameters_are_shown_and_secret_ones_masked_whatever_they_hold() -> None:
    task = sample_task(
        parameters={"city": "paris", "hours": [1, 2], "door": "hunter2", "my_password": "hunter3"},
        secret_parameters=("door", "api_token"),
    )
    html = rendered(task)
    assert "city paris hours [1, 2] door *** my_password *** api_token ***" in seen(html)
    assert "hunter" not in html


def test_a_failure_shows_the_place_the_users_line_and_the_message_and_folds_the_traceback() -> None:
    html = rendered(outcome=failed_outcome(), body='<div id="failed">the cell</div>')
    text = seen(html)
    assert "failed, exit code 1" in text
    assert "Failed at cell 3, line 2 rows[\"rian\"].sum() KeyError: 'rian' dsflow run create-table-rain" in text
    assert '<a href="#failed">cell 3, line 2</a>' in html
    assert re.search(r"<details><summary>Traceback</summary><pre[^>]*>Traceback \(most recent", html)


def test_an_interrupted_run_is_not_called_failed() -> None:
    text = seen(rendered(outcome=failed_outcome(status=Status.INTERRUPTED, exit_code=130)))
    assert "interrupted, exit code 130" in text
    assert "Failed" not in text


def test_the_log_is_folded_below_a_body_and_open_where_it_is_all_there_is() -> None:
    folded = rendered(body="<p>the notebook</p>", log="one\ntwo")
    assert "<details><summary>2 lines</summary>" in folded
    assert "<p>the notebook</p>" in folded
    assert "<details open><summary>1 line</summary>" in rendered(log="one")
    assert "<details open>" in rendered(sample_task(kind="script"), body="<p>the script</p>", log="one")
    assert "The run printed nothing." in seen(rendered())


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain", "red plain"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r50%\r100%\ndone", "100%\ndone"),
        ("windows\r\nlines\r\n", "windows\nlines"),
        ("overwritten\rby\r", "by"),
        ("bell\x07 nul\x00 tab\t", "bell� nul� tab\t"),
    ],
)
def test_a_log_is_shown_as_a_terminal_would_have(printed: str, shown: str) -> None:
    assert page.plain(printed) == shown


def hostile(value: Any) -> Any:
    """Put markup into every text of a value."""
    if isinstance(value, enum.Enum):
        return value
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, tuple | list):
        return type(value)(map(hostile, value))
    if isinstance(value, dict):
        return {hostile(key): hostile(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = ("action", "store")  # literals, checked long before
        fields = [field.name for field in dataclasses.fields(value) if field.name not in kept]
        return dataclasses.replace(value, **{name: hostile(getattr(value, name)) for name in fields})
    return value


@pytest.mark.parametrize("outcome", [sample_outcome(), failed_outcome()])
def test_markup_in_any_text_of_a_run_stays_text(outcome: Outcome) -> None:
    html = rendered(hostile(sample_task()), hostile(outcome), log=HOSTILE)
    seen(html)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("&lt;script&gt;document.title") > 20
    assert "{{ 7*7 }}" in html


def test_a_preview_escapes_names_and_values() -> None:
    html = page.preview_table((HOSTILE,), [(HOSTILE,), ("x",)])
    assert seen(html).startswith("First rows (2)")
    assert "<script" not in html
    assert "No rows" in page.preview_table(("a",), [])


def test_source_code_is_escaped_and_coloured_and_an_unknown_language_is_only_escaped() -> None:
    assert '<span class="k">SELECT</span>' in source("SELECT 1", "sql")
    for language in ("sql", "python", "sh", "klingon"):
        html = source(HOSTILE + "\n\n  kept", language)
        assert "".join(seen(html).split()) == "".join(HOSTILE.split()) + "kept"
        assert "<script" not in html


def test_only_a_body_with_scripts_of_its_own_may_run_scripts() -> None:
    assert "script-src 'none'" in unescape(rendered(log=HOSTILE))
    assert "script-src 'unsafe-inline'" in unescape(rendered(body="<div><Script>draw()</script></div>"))
    for html in (rendered(), rendered(body="<script></script>")):
        assert "default-src 'none'" in html
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|url\(""", html)


def test_the_written_page_links_what_is_there_and_holds_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"caf\xc3\xa9\nnot utf-8: \xff\n")
    page.write(tmp_path, sample_task(), sample_outcome(), "<p>half \ud83d surrogate</p>")
    html = (tmp_path / "index.html").read_text("utf-8")
    assert re.findall(r'<a href="([^"]+)">', html) == ["task.json", "outcome.json", "log.txt"]
    assert "café\nnot utf-8: �" in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "log.txt"]
    (tmp_path / "notebook.ipynb").touch()
    page.write(tmp_path, sample_task(), sample_outcome(), "")
    assert '<a href="notebook.ipynb">' in (tmp_path / "index.html").read_text("utf-8")


def test_of_a_huge_log_the_page_holds_the_end(tmp_path: Path) -> None:
    lines = "".join(f"line {number:>9}\n" for number in range(300_000))
    (tmp_path / "log.txt").write_text(lines)
    page.write(tmp_path, sample_task(), sample_outcome(), "")
    html = (tmp_path / "index.html").read_text("utf-8")
    assert "[the first 2.5 MB are in log.txt only]\nline " in html
    assert "line    299999" in html
    assert len(html) < 2_100_000


def test_a_run_without_a_log_has_a_page(tmp_path: Path) -> None:
    page.write(tmp_path, sample_task(), failed_outcome(), "")
    assert "The run printed nothing." in (tmp_path / "index.html").read_text("utf-8")


def test_many_columns_and_partitions_do_not_break_it() -> None:
    manifest = sample_outcome().outputs[0].manifest
    wide = dataclasses.replace(manifest, columns=tuple(Column(name=f"c{n}", type="DOUBLE") for n in range(2000)))
    used = sample_outcome().inputs * 365
    assert "2000 columns" in seen(rendered(outcome=sample_outcome(inputs=used, outputs=(Published(manifest=wide),))))


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and the paths that were asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def in_browser(html: str, folder: Path) -> str:
    """Open a page in a browser and give what it has become."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    need(browser is not None, "no browser: chromium is not installed")
    (folder / "index.html").write_text(html)
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = [str(browser), *flags.split(), "--disable-component-update", f"--user-data-dir={folder}/profile"]
    command += ["--virtual-time-budget=3000", "--dump-dom", (folder / "index.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.browser
def test_a_browser_runs_nothing_and_fetches_nothing(tmp_path: Path, requests: tuple[str, list[str]]) -> None:
    address, asked = requests
    attack = f'{HOSTILE}<img src="{address}/escaped.png"><link rel="stylesheet" href="{address}/escaped.css">'
    task = sample_task(parameters={"city": attack}, description=attack)
    body = f'<img src="{address}/body.png"><iframe src="{address}/frame"></iframe><p onclick="x()">the notebook</p>'
    dom = in_browser(rendered(task, failed_outcome(), body, log=attack), tmp_path)
    assert "<title>create-table-rain 2026-11-20 failed</title>" in dom
    assert "the notebook" in dom
    assert asked == []


@pytest.mark.browser
def test_a_chart_may_draw_itself_but_not_call_home(tmp_path: Path, requests: tuple[str, list[str]]) -> None:
    address, asked = requests
    draw = "document.getElementById('chart').textContent = 'dra' + 'wn'"
    call = f"fetch('{address}/x').catch(() => 0); new Image().src = '{address}/pixel'"
    body = f"<div id='chart'></div><script>{draw}; {call}</script><script src='{address}/library.js'></script>"
    dom = in_browser(rendered(body=body), tmp_path)
    assert "drawn</div>" in dom
    assert asked == []
