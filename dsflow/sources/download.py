"""Downloads a file into a folder: `python -m dsflow.sources.download URL FOLDER [--unzip]`.

Web addresses, paths, and whatever else fsspec opens can be fetched. The data streams into a temporary name, a broken
transfer goes on where it stopped, and the file gets its name only when its length is right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dsflow.errors import DISK_FULL, DsflowError, EnvironmentMissing, JobFailed
from dsflow.quantities import show_bytes, show_count

_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.5
_CHUNK_BYTES = 1 << 20
_LONGEST_NAME_BYTES = 200


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
        EnvironmentMissing: no installed file system opens such a URL, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / file_name(url)
    partial = folder / f".{target.name}.part"
    try:
        _transfer(url, partial, say)
        say(f"downloaded {target.name}: {show_bytes(partial.stat().st_size)}")
        if unzip:
            return _unzip(partial, target.name, say)
        partial.replace(target)
        return [target]
    except OSError as error:
        if error.errno in DISK_FULL:
            raise EnvironmentMissing(f"the disk is full: {folder}", "Free some space and run again.") from error
        raise JobFailed(f"cannot write into {folder}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def fetch_folder(url: str, folder: Path) -> None:
    """Download a folder with all that is in it.

    Args:
        url: A URL that an installed fsspec file system opens, such as `s3://...`.
        folder: Where it goes; not there yet.

    Raises:
        JobFailed: there is no such folder, or it cannot be read.
        EnvironmentMissing: no installed file system opens such a URL.
    """
    files, path = _file_system(url)
    try:
        if not files.isdir(path):
            raise JobFailed(f"{_shown(url)} is no folder that can be seen from here", "Check the address.")
        files.get(path.rstrip("/") + "/", str(folder) + "/", recursive=True)
    except DsflowError:
        raise
    except Exception as error:
        # Every file system has exceptions of its own.
        what = (str(error) or type(error).__name__).replace(url, _shown(url))
        raise JobFailed(f"downloading {_shown(url)} failed: {what}") from error


def file_name(url: str) -> str:
    """Give the name a download gets: the last part of the URL's path, without query and escapes."""
    path = urllib.parse.unquote(_split(url).path) if "://" in url else url
    name = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    name = "".join(char for char in name if char.isprintable()).lstrip(".")
    return name.encode()[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore") or "download"


def _transfer(url: str, partial: Path, say: Callable[[str], None]) -> None:
    fetch_rest = _source(url)
    pause = _FIRST_PAUSE_SECONDS
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            fetch_rest(partial)
            return
        except DsflowError:
            raise
        except FileNotFoundError:
            raise JobFailed(f"{_shown(url)} does not exist", "Check the URL; is the data of this ds out yet?") from None
        except IsADirectoryError:
            raise JobFailed(f"{_shown(url)} is a folder, not a file") from None
        except Exception as error:
            # Every file system has exceptions of its own; all may be passing troubles of a network.
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            what = (str(error) or type(error).__name__).replace(url, _shown(url))
            if attempt == _ATTEMPTS or isinstance(error, PermissionError):
                tried = show_count(attempt, "attempt")
                raise JobFailed(f"downloading {_shown(url)} failed after {tried}: {what}") from error
            say(f"attempt {attempt} of {_ATTEMPTS} failed ({what}); trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2


def _source(url: str) -> Callable[[Path], None]:
    """Give what fetches the rest of a file, by its URL."""
    if _split(url).scheme in ("http", "https"):
        from dsflow.sources.web import WebFile

        return WebFile(url, _shown(url)).fetch_rest
    files, path = _file_system(url)
    return lambda partial: _fetch_rest(files, path, partial)


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    path = url.removeprefix("file://")
    if path != url and not Path(path).exists():
        url = f"file://{urllib.parse.unquote(path)}"
    try:
        files, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise EnvironmentMissing(
            f"nothing here opens {_shown(url)}: {error}", "Add the package to `run: {requirements: [...]}` of the job."
        ) from error
    return files, path


def _fetch_rest(files: Any, path: str, partial: Path) -> None:
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


def _unzip(archive: Path, name: str, say: Callable[[str], None]) -> list[Path]:
    """Unpack an archive beside itself: all of it, or nothing."""
    folder = archive.parent
    with tempfile.TemporaryDirectory(prefix=f".{name[:50]}.", dir=folder) as unpacked:
        try:
            with zipfile.ZipFile(archive) as opened:
                members = [member for member in opened.infolist() if not member.is_dir()]
                for member in members:
                    if not Path(unpacked, member.filename).resolve().is_relative_to(Path(unpacked).resolve()):
                        raise JobFailed(f"{name} has a file that leaves the folder: {member.filename}")
                extracted = [Path(opened.extract(member, unpacked)) for member in members]
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise JobFailed(f"{name} is no zip file ({error})", "Generate the job without unzip.") from None
        except RuntimeError as error:
            # A password, or a way of packing that Python does not know.
            raise JobFailed(f"{name} cannot be unzipped: {error}") from None
        targets = {folder / path.relative_to(unpacked): path for path in extracted}
        for target, path in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    say(f"unzipped {show_count(len(targets), 'file')}")
    return list(targets)


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(url)
    except ValueError:
        # Nothing of what cannot be taken apart can be shown without its secrets.
        raise JobFailed("the URL to download is not valid", "Look for brackets and spaces in it.") from None


def _shown(url: str) -> str:
    """Give a URL without user, password and query, which may hold secrets."""
    parts = _split(url)
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
