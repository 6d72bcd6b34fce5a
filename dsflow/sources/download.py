"""Downloads a file into a folder: `python -m dsflow.sources.download URL FOLDER [--unzip]`.

Whatever fsspec opens can be fetched. The data streams into a temporary name, a broken transfer goes on where it
stopped, and the file gets its name only when its length is right.
"""

from __future__ import annotations

import argparse
import sys
import time
import urllib.parse
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dsflow.errors import DsflowError, EnvironmentMissing, JobFailed

_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.5
_CHUNK_BYTES = 1 << 20


def fetch(url: str, folder: Path, *, unzip: bool = False, say: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Download one file, and unpack it if asked, replacing files of the same names.

    Args:
        url: `https://...`, `file:///...`, a plain path, or any URL that an installed fsspec file system opens.
        folder: Where the file goes; made if it is not there.
        unzip: Unpack a .zip and remove it.
        say: Gets a line about each step.

    Returns:
        The files that are there now because of this download.

    Raises:
        JobFailed: the source does not exist, refuses, or gives another length than it said.
        EnvironmentMissing: no installed file system opens such a URL.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file_name(url)
    partial = folder / f".{target.name}.part"
    try:
        _transfer(url, partial, say)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    say(f"downloaded {target.name}: {target.stat().st_size:,} bytes")
    return _unzip(target, say) if unzip else [target]


def file_name(url: str) -> str:
    """Give the name a download gets: the last part of the URL's path, without query and escapes."""
    path = urllib.parse.urlsplit(url).path if "://" in url else url
    name = urllib.parse.unquote(path).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    name = "".join(char for char in name if char.isprintable()).lstrip(".")
    return name[:200] or "download"


def _transfer(url: str, partial: Path, say: Callable[[str], None]) -> None:
    files, path = _file_system(url)
    pause = _FIRST_PAUSE_SECONDS
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _continue(files, path, partial)
            return
        except FileNotFoundError:
            raise JobFailed(f"{_shown(url)} does not exist", "Check the URL; is the data of this ds out yet?") from None
        except IsADirectoryError:
            raise JobFailed(f"{_shown(url)} is a folder, not a file") from None
        except Exception as error:
            # Every file system has exceptions of its own; all may be passing troubles of a network.
            what = str(error) or type(error).__name__
            if attempt == _ATTEMPTS or isinstance(error, PermissionError):
                raise JobFailed(f"downloading {_shown(url)} failed after {attempt} attempts: {what}") from error
            say(f"attempt {attempt} of {_ATTEMPTS} failed ({what}); trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    options = {"client_kwargs": {"trust_env": True}} if url.startswith(("http://", "https://")) else {}
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise EnvironmentMissing(
            f"nothing here opens {_shown(url)}: {error}", "Add the package to `run: {requirements: [...]}` of the job."
        ) from error
    return files, path


def _continue(files: Any, path: str, partial: Path) -> None:
    """Fetch what is missing of a file, and check its length where the source tells it."""
    size = files.info(path).get("size")
    have = partial.stat().st_size if partial.exists() else 0
    with files.open(path, "rb") as source:
        if have and size is not None and source.seekable():
            source.seek(have)
        else:
            have = 0
        with open(partial, "r+b" if have else "wb") as sink:
            sink.seek(have)
            while chunk := source.read(_CHUNK_BYTES):
                sink.write(chunk)
    got = partial.stat().st_size
    if size is not None and got != size:
        if got > size:
            partial.unlink()
        raise OSError(f"got {got:,} of {size:,} bytes")


def _unzip(archive: Path, say: Callable[[str], None]) -> list[Path]:
    folder = archive.parent.resolve()
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            for member in members:
                if not (folder / member.filename).resolve().is_relative_to(folder):
                    raise JobFailed(f"{archive.name} has a file that leaves the folder: {member.filename}")
                opened.extract(member, folder)
    except zipfile.BadZipFile:
        raise JobFailed(f"{archive.name} is no zip file", "Generate the job without unzip.") from None
    if archive.name not in {member.filename for member in members}:
        archive.unlink()
    say(f"unzipped {len(members)} files")
    return [folder / member.filename for member in members]


def _shown(url: str) -> str:
    """Give a URL without user, password and query, which may hold secrets."""
    parts = urllib.parse.urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dsflow.sources.download", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--unzip", action="store_true", help="unpack a .zip")
    options = parser.parse_args(arguments)
    try:
        fetch(options.url, options.folder, unzip=options.unzip, say=lambda line: print(line, flush=True))
    except DsflowError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
