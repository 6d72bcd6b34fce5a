"""Files on web servers, with what a long download needs: it goes on where it stopped, unless the file has changed."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from dsflow.errors import JobFailed

if TYPE_CHECKING:
    import requests

# To connect, and between two pieces of data.
_TIMEOUT_SECONDS = (20, 60)
_CHUNK_BYTES = 1 << 16
# requests knows the first two by itself, and leaves out the third, which everything else here goes by.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class WebFile:
    """A file at an `http(s)://` address; proxies, netrc and CA bundles are those of the environment.

    Args:
        url: Where it is.
        shown: The URL as it may appear in messages.
    """

    def __init__(self, url: str, shown: str) -> None:
        self._url = url
        self._shown = shown
        self._version = ""
        self._resumable = False

    def fetch_rest(self, partial: Path) -> None:
        """Fetch what is missing of the file; where that cannot be known, all of it.

        Raises:
            JobFailed: the server does not have the file, or does not give it to us.
            OSError: something that may be over when it is tried again.
        """
        import requests

        have = partial.stat().st_size if self._resumable and partial.exists() else 0
        wanted = {"Range": f"bytes={have}-"} | ({"If-Range": self._version} if self._version else {}) if have else {}
        headers = {"Accept-Encoding": "identity", **wanted}
        verify = next((os.environ[name] for name in _BUNDLES if os.environ.get(name)), True)
        try:
            with requests.get(
                self._url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS, verify=verify
            ) as response:
                self._check(response)
                self._save(response, partial, have)
        except requests.RequestException as error:
            if isinstance(error, ValueError):
                raise JobFailed(f"{self._shown} is not a web address") from None
            raise OSError(_root(error)) from error

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status in _GONE:
            raise JobFailed(f"{self._shown} does not exist", "Check the URL; is the data of this ds out yet?")
        said = f"the server said {status} {response.reason}".rstrip()
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._resumable = False
            raise OSError(said)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise OSError(said)
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise JobFailed(f"{self._shown} cannot be had: {said}")

    def _save(self, response: requests.Response, partial: Path, have: int) -> None:
        goes_on = response.status_code == HTTPStatus.PARTIAL_CONTENT
        if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            self._resumable = False
            raise OSError("the server gave another part than it was asked for")
        # What was packed for the way has another length here, so neither length nor place can be compared.
        is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
        if not goes_on:
            self._resumable, self._version, have = is_plain, _version(response), 0
        length = response.headers.get("Content-Length", "") if is_plain else ""
        with open(partial, "ab" if goes_on else "wb") as sink:
            sink.writelines(response.iter_content(_CHUNK_BYTES))
            got = sink.tell()
        if length.isdecimal() and got != have + int(length):
            raise OSError(f"got {got:,} of {have + int(length):,} bytes")


def _version(response: requests.Response) -> str:
    """Give what tells this version of the file from another one, as `If-Range` takes it."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _root(error: BaseException) -> str:
    """Give what is behind an error; the words of requests itself hold the whole URL, secrets included."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
