"""Downloads: what arrives, under which name, and what is left when nothing does."""

from __future__ import annotations

import errno
import http.server
import io
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from dsflow.errors import EnvironmentMissing, JobFailed
from dsflow.sources import download, web
from dsflow.sources.download import fetch, file_name
from tests.conftest import MakeWorkspace, Screen

DATA = bytes(range(256)) * 4096  # a megabyte
NEW = DATA[::-1]
SECRET_PARTS = ("hunter22", "ada.lovelace", "tok3n")


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA in the way that the first part of a path says, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str | None] = []  # the Range header of each request
        self.sent = 0
        self.data = DATA
        self.seen: Callable[[], None] = lambda: None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        self.server.seen()
        way = self.path.strip("/").partition("/")[0].partition("?")[0]
        getattr(self, f"_{way.replace('-', '_')}")()

    def log_message(self, *_: object) -> None:
        pass

    def _reply(self, body: bytes, *, announce: int | None = -1, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if announce is not None:
            self.send_header("Content-Length", str(len(body) if announce < 0 else announce))
        self.end_headers()
        # Counted first: the client may be done before this thread goes on.
        self.server.sent += len(body)
        self.wfile.write(body)

    def _wanted(self) -> tuple[int, bool]:
        """Where to begin, and whether it is a part that was asked for and may be given."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        valid = self.headers.get("If-Range", self._tag()) == self._tag()
        return (int(match[1]), True) if match and valid else (0, False)

    def _tag(self) -> str:
        return f'"{hash(self.server.data)}"'

    def _good(self) -> None:
        if self.headers["Accept-Encoding"] != "identity":
            # Packed on the way, it has no length and no place to go on from.
            self._packed()
            return
        start, is_part = self._wanted()
        rest = self.server.data[start:]
        total = len(self.server.data)
        if is_part:
            place = f"bytes {start}-{total - 1}/{total}"
            self._reply(rest, status=206, ETag=self._tag(), Content_Range=place)
        else:
            self._reply(rest, ETag=self._tag())

    def _cut(self) -> None:
        """Give half of it the first time."""
        if len(self.server.asked) > 1:
            self._good()
        else:
            self._reply(DATA[: len(DATA) // 2], announce=len(DATA), ETag=self._tag())

    def _cut_without_parts(self) -> None:
        whole = len(self.server.asked) > 1
        self._reply(DATA if whole else DATA[:1000], announce=len(DATA))

    def _always_cut(self) -> None:
        self._reply(DATA[:1000], announce=len(DATA))

    def _changing(self) -> None:
        if len(self.server.asked) == 1:
            self._reply(DATA[: len(DATA) // 2], announce=len(DATA), ETag=self._tag())
            self.server.data = NEW
        else:
            self._good()

    def _no_length(self) -> None:
        self._reply(DATA, announce=None)

    def _packed(self) -> None:
        import gzip

        self._reply(gzip.compress(DATA), Content_Encoding="gzip")

    def _wrong_part(self) -> None:
        if len(self.server.asked) == 1:
            self._reply(DATA[: len(DATA) // 2], announce=len(DATA), ETag=self._tag())
        elif self.headers.get("Range"):
            self._reply(DATA[5:], status=206, Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")
        else:
            self._good()

    def _busy(self) -> None:
        """Refuse twice, in ways that pass."""
        status = {1: 500, 2: 429}.get(len(self.server.asked))
        if status:
            self.send_error(status)
        else:
            self._good()

    def _broken(self) -> None:
        self.send_error(503)

    def _missing(self) -> None:
        self.send_error(404)

    def _forbidden(self) -> None:
        self.send_error(403)

    def _elsewhere(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/good/other-name.csv")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _login(self) -> None:
        if self.headers.get("Authorization"):
            self._good()
        else:
            self.send_error(401)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_SECONDS", 0.001)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def zipped(**members: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return made.getvalue()


# ---- what arrives


@pytest.mark.parametrize("way", ["good", "no-length", "packed", "cut", "cut-without-parts", "wrong-part", "busy"])
def test_however_the_server_gives_it_the_file_is_whole(server: Server, tmp_path: Path, way: str) -> None:
    assert fetch(server.url(f"{way}/rain.csv"), tmp_path) == [tmp_path / "rain.csv"]
    assert (tmp_path / "rain.csv").read_bytes() == DATA
    assert left(tmp_path) == ["rain.csv"]


def test_large_files_need_no_server_that_gives_parts(server: Server, tmp_path: Path) -> None:
    server.data = DATA * 8
    fetch(server.url("no-length/rain.csv"), tmp_path)
    assert server.asked == [None]


def test_a_redirect_is_followed_and_the_name_is_that_of_the_address(server: Server, tmp_path: Path) -> None:
    fetch(server.url("elsewhere/rain.csv"), tmp_path)
    assert left(tmp_path) == ["rain.csv"]
    assert (tmp_path / "rain.csv").read_bytes() == DATA


def test_user_and_password_of_the_address_are_used(server: Server, tmp_path: Path) -> None:
    fetch(server.url("login/rain.csv").replace("://", "://ada:hunter22@"), tmp_path)
    assert (tmp_path / "rain.csv").read_bytes() == DATA


def test_until_the_end_there_is_no_file_of_the_final_name(server: Server, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    server.seen = lambda: seen.append(left(tmp_path))
    fetch(server.url("cut/rain.csv"), tmp_path)
    assert seen == [[], [".rain.csv.part"]]


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    fetch(server.url("cut/rain.csv"), tmp_path, say=said.append)
    assert server.asked == [None, f"bytes={len(DATA) // 2}-"]
    assert server.sent == len(DATA)
    assert said[0].startswith("attempt 1 of 5 failed (")
    assert said[1] == "downloaded rain.csv: 1.0 MB"


def test_a_file_that_changes_meanwhile_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    fetch(server.url("changing/rain.csv"), tmp_path)
    assert server.asked == [None, f"bytes={len(DATA) // 2}-"]
    assert (tmp_path / "rain.csv").read_bytes() == NEW


def test_a_second_download_gives_the_same_files(server: Server, tmp_path: Path) -> None:
    fetch(server.url("good/rain.csv?day=1"), tmp_path)
    server.data = b"newer"
    fetch(server.url("good/rain.csv?day=1"), tmp_path)
    assert left(tmp_path) == ["rain.csv"]
    assert (tmp_path / "rain.csv").read_bytes() == b"newer"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_paths_are_copied(tmp_path: Path, form: str) -> None:
    source = tmp_path / "from" / "a b%.csv"
    source.parent.mkdir()
    source.write_bytes(DATA)
    made = fetch(form.format(source), tmp_path / "to" / "new")
    assert [path.name for path in made] == ["a b%.csv"]
    assert made[0].read_bytes() == DATA
    assert source.exists()


def test_escapes_of_a_file_address_are_understood(tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_text("x")
    assert fetch(f"file://{tmp_path}/a%20b.csv", tmp_path / "to") == [tmp_path / "to" / "a b.csv"]


def test_whatever_fsspec_opens_can_be_fetched(tmp_path: Path) -> None:
    with fsspec.open("memory://lake/rain.csv", "wb") as file:
        file.write(DATA)
    fetch("memory://lake/rain.csv", tmp_path)
    assert (tmp_path / "rain.csv").read_bytes() == DATA


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/a/rain.csv", "rain.csv"),
        ("https://example.com/rain.csv?token=abc#top", "rain.csv"),
        ("https://example.com/r%C3%A9gion%20nord.csv", "région nord.csv"),
        ("https://example.com/a%2F..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://example.com/..", "download"),
        ("https://example.com/%2E%2E", "download"),
        ("https://example.com/.bashrc", "bashrc"),
        ("https://example.com/a%00b%0Ac.csv", "abc.csv"),
        ("https://example.com/..%5C..%5Cx.csv", "x.csv"),
        ("https://example.com/", "download"),
        ("https://example.com", "download"),
        ("/data/raw/100%25.csv", "100%25.csv"),
    ],
)
def test_the_name_is_the_last_part_of_the_path(url: str, name: str) -> None:
    assert file_name(url) == name


def test_a_name_is_never_too_long_for_a_file_system(server: Server, tmp_path: Path) -> None:
    fetch(server.url("good/" + "é" * 300 + ".csv"), tmp_path)
    assert len(left(tmp_path)) == 1


# ---- what goes wrong


@pytest.mark.parametrize(
    ("way", "requests", "message"),
    [
        ("missing", 1, "/missing/rain.csv does not exist"),
        ("forbidden", 1, "/forbidden/rain.csv cannot be had: the server said 403 Forbidden"),
        ("broken", 5, "failed after 5 attempts: the server said 503 Service Unavailable"),
        ("always-cut", 5, "failed after 5 attempts: "),
    ],
)
def test_what_cannot_be_had_is_said_and_nothing_is_left(
    server: Server, tmp_path: Path, way: str, requests: int, message: str
) -> None:
    with pytest.raises(JobFailed, match=re.escape(message)):
        fetch(server.url(f"{way}/rain.csv"), tmp_path)
    assert len(server.asked) == requests
    assert left(tmp_path) == []


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="failed after 5 attempts: Connection refused"):
        fetch("http://127.0.0.1:1/rain.csv", tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/no/such/file.csv", "/no/such/file.csv does not exist"),
        ("file:///no/such/file.csv", "does not exist"),
        ("/usr", "/usr is a folder, not a file"),
        ("http://", "is not a web address"),
        ("http://[x", "not valid"),
    ],
)
def test_what_is_no_file_is_said(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(JobFailed, match=re.escape(message)):
        fetch(url, tmp_path)
    assert left(tmp_path) == []


def test_a_kind_of_address_that_nothing_opens_is_missing_in_the_environment(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="nothing here opens gopher://example.com/x"):
        fetch("gopher://example.com/x", tmp_path)


def test_a_full_disk_is_not_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(web.WebFile, "_save", full)
    with pytest.raises(EnvironmentMissing, match="the disk is full"):
        fetch(server.url("good/rain.csv"), tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("way", ["good", "missing", "forbidden", "broken", "always-cut", "refused", "ftp"])
def test_secrets_of_an_address_are_in_no_message(server: Server, tmp_path: Path, way: str) -> None:
    url = server.url(f"{way}/rain.csv?token=tok3n").replace("://", "://ada.lovelace:hunter22@")
    url = url.replace(f":{server.server_port}", ":1") if way == "refused" else url
    url = url.replace("http:", "gopher:") if way == "ftp" else url
    said: list[str] = []
    try:
        fetch(url, tmp_path, say=said.append)
    except (JobFailed, EnvironmentMissing) as error:
        said += [error.message, error.hint]
    assert said
    assert [part for part in SECRET_PARTS if part in " ".join(said)] == []


# ---- zip files


def from_zip(folder: Path, content: bytes, name: str = "all.zip") -> list[Path]:
    source = folder.parent / f"{folder.name}-source" / name
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(content)
    return fetch(str(source), folder, unzip=True)


def test_a_zip_is_unpacked_and_gone(tmp_path: Path) -> None:
    target = tmp_path / "t"
    content = zipped(**{"a.csv": "1", "deep/er/b.csv": "2", "empty/": ""})
    made = from_zip(target, content)
    assert made == [target / "a.csv", target / "deep/er/b.csv"]
    assert left(target) == ["a.csv", "deep", "deep/er", "deep/er/b.csv"]
    assert from_zip(target, content) == made
    assert left(target) == ["a.csv", "deep", "deep/er", "deep/er/b.csv"]


def test_a_zip_may_hold_a_file_of_its_own_name(tmp_path: Path) -> None:
    assert from_zip(tmp_path / "t", zipped(rain="wet" * 10_000), name="rain") == [tmp_path / "t" / "rain"]
    assert (tmp_path / "t" / "rain").read_text() == "wet" * 10_000


@pytest.mark.parametrize("member", ["../out.csv", "a/../../out.csv", "/tmp/dsflow-out.csv"])
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, member: str) -> None:
    with pytest.raises(JobFailed, match=re.escape(f"all.zip has a file that leaves the folder: {member}")):
        from_zip(tmp_path / "t", zipped(**{"good.csv": "1", member: "2"}))
    assert left(tmp_path) == ["t", "t-source", "t-source/all.zip"]
    assert not Path("/tmp/dsflow-out.csv").exists()


def encrypted() -> bytes:
    content = bytearray(zipped(**{"a.csv": "x"}))
    content[6] |= 1  # the flag in the member's own header,
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hour,rain\n", "all.zip is no zip file"),
        (b"", "all.zip is no zip file"),
        (zipped(**{"a.csv": "x" * 100_000})[:200], "all.zip is no zip file"),
        (zipped(**{"a.csv": "abc" * 99}).replace(b"\x4b\x4c\x4a", b"\xff\xff\xff", 1), "all.zip is no zip file"),
        (encrypted(), "all.zip cannot be unzipped"),
    ],
    ids=["text", "empty", "cut", "damaged", "encrypted"],
)
def test_what_cannot_be_unpacked_leaves_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(JobFailed, match=message):
        from_zip(tmp_path / "t", content)
    assert left(tmp_path / "t") == []


# ---- the command line, and a job


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "dsflow.sources.download", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_scripts_call_it(server: Server, tmp_path: Path) -> None:
    server.data = zipped(**{"a.csv": "1"})
    done = command(server.url("good/all.zip?x=1"), str(tmp_path), "--unzip")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"downloaded all.zip: {len(server.data)} B", "unzipped 1 file"]
    assert left(tmp_path) == ["a.csv"]


def test_scripts_get_one_sentence_and_an_exit_code(server: Server, tmp_path: Path) -> None:
    done = command(server.url("missing/rain.csv"), str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"{server.url('missing/rain.csv')} does not exist\n"
    done = command("gopher://example.com/x", str(tmp_path))
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_an_input_that_is_an_address_is_fetched_for_the_run_and_not_kept(
    server: Server,
    make_workspace: MakeWorkspace,
    dsflow: Callable[..., Screen],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    specs = f"version: 1\nkind: sql\ninputs: {{rain: {{path: '{server.url('good/rain.csv?ds={{ ds }}')}'}}}}\n"
    files = {
        "jobs/t/job_specs.yaml": f"{specs}output: {{table: t}}\n",
        "jobs/t/t.sql": "SELECT sum(mm) AS mm FROM rain",
    }
    server.data = b"hour,mm\n0,2\n1,3\n"
    workspace = make_workspace(files)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    screen = dsflow("run", "t", "2013-01-01")
    assert screen.exit_code == 0, screen
    assert len(server.asked) == 1
    assert left(tmp_path / "tmp") == []
    (run_folder,) = (workspace.datastore / "job_runs/t/ds=2013-01-01").iterdir()
    assert left(run_folder) == ["index.html", "log.txt", "outcome.json", "task.json"]


def test_7_1_20_a_second_download_for_a_date_gives_the_same_set_of_files(
    server: Server, make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSFLOW_RUNTIME", "process")
    workspace = make_workspace({})
    url = server.url("good/meteo.zip?ds={{ ds }}")
    answers = ("--set", f"source_url={url}", "--set", "unzip=true")
    assert dsflow("generate-job", "download_file", "meteo", *answers).exit_code == 0
    partition = workspace.root / "datastore/raw/meteo/ds=2013-01-01"
    found = []
    for text in ("old", "new"):
        server.data = zipped(**{"a.csv": text, "b/c.csv": text})
        screen = dsflow("run", "download-meteo", "2013-01-01")
        assert screen.exit_code == 0, screen
        assert (partition / "a.csv").read_text() == text
        found.append(left(partition))
    assert found[0] == found[1] == ["a.csv", "b", "b/c.csv"]
    assert left(partition.parent) == ["ds=2013-01-01", *(f"ds=2013-01-01/{name}" for name in found[0])]
