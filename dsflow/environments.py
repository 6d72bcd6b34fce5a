"""Python environments, kept by a hash: this one with requirements laid over it, or one of its own from a lock."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsflow import cache
from dsflow.errors import EnvironmentMissing

Notify = Callable[[str], None]

_COMPLETE = ".complete"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A Python to run jobs with, and the hash of everything installed for it."""

    python: str
    lock_hash: str


def current() -> Environment:
    """Give the Python that runs this, for jobs without requirements."""
    return Environment(python=sys.executable, lock_hash=_hash(_installed(_site_packages())))


def environment_for(requirements: Sequence[str], notify: Notify) -> Environment:
    """Give an environment with this one's packages and the requirements, making it where there is none yet.

    What this environment has stays at its version unless the requirements forbid it.

    Args:
        requirements: In pip's words, such as `scikit-learn==1.8.0`.
        notify: Gets a line before anything slow.

    Raises:
        EnvironmentMissing: they cannot be installed.
    """
    wanted, folder = sorted(set(requirements)), _folder(requirements)
    if not (folder / _COMPLETE).exists():
        with cache.one_at_a_time(f"environment-{folder.name}", notify):
            # A folder without the mark is what a killed installation left, or what another one finished meanwhile.
            if not (folder / _COMPLETE).exists():
                notify(f"Installing {', '.join(wanted)} (once)")
                _make(folder, wanted)
    return _made(folder)


def locked(lock: Path, notify: Notify) -> Environment:
    """Give an environment that has what a file of locked requirements names and nothing else, making it if need be.

    Args:
        lock: The file, with a hash for each package, as `uv pip compile --generate-hashes` writes it.
        notify: Gets a line before anything slow.

    Raises:
        EnvironmentMissing: they cannot be installed.
    """
    text = lock.read_text(encoding="utf-8")
    key = _hash([text, sys.version, sys.base_prefix])
    folder = cache.folder() / "environments" / key[:16]
    if not (folder / _COMPLETE).exists():
        with cache.one_at_a_time(f"environment-{folder.name}", notify):
            if not (folder / _COMPLETE).exists():
                notify(f"Installing {lock.parent.name}/{lock.name} (once)")
                _make_locked(folder, text, f"{lock.parent.name}/{lock.name}")
    return Environment(python=str(folder / "bin" / "python"), lock_hash=key)


def unpacked(lines: Sequence[str], shown: str, notify: Notify) -> Path:
    """Give a folder with the files of locked requirements and nothing else, making it if need be.

    Args:
        lines: A line for each package, with its version and perhaps hashes, in pip's words.
        shown: What messages call them.
        notify: Gets a line before anything slow.

    Raises:
        EnvironmentMissing: they cannot be installed.
    """
    key = _hash([*lines, sys.version])
    folder = cache.folder() / "requirements" / key[:16]
    if not (folder / _COMPLETE).exists():
        with cache.one_at_a_time(f"requirements-{folder.name}", notify):
            if not (folder / _COMPLETE).exists():
                notify(f"Installing {shown} (once)")
                _unpack(folder, lines, shown)
    return folder / "files"


def package_path() -> Path:
    """Give a folder that holds this package and nothing else, for the import path of an environment of its own."""
    package = Path(__file__).resolve().parent
    folder = cache.folder() / "package" / _hash([str(package)])[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / package.name).symlink_to(package, target_is_directory=True)
    return folder


def known(requirements: Sequence[str]) -> Environment | None:
    """Give the environment that `environment_for` would, or None where it is not made yet."""
    folder = _folder(requirements)
    return _made(folder) if (folder / _COMPLETE).exists() else None


def _folder(requirements: Sequence[str]) -> Path:
    key = _hash([*sorted(set(requirements)), sys.version, sys.prefix, *_installed(_site_packages())])
    return cache.folder() / "environments" / key[:16]


def _made(folder: Path) -> Environment:
    installed = _installed([str(_packages_of(folder)), *_site_packages()])
    return Environment(python=str(folder / "bin" / "python"), lock_hash=_hash(installed))


def _make(folder: Path, requirements: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv")
    python = folder / "bin" / "python"
    try:
        _run([sys.executable, "-m", "venv", *(["--without-pip"] if uv else []), str(folder)], requirements)
        # Read by Python at its start: this environment's packages, after those of the new one.
        lines = [f"import site; site.addsitedir({path!r})\n" for path in _site_packages()]
        (_packages_of(folder) / "dsflow-underneath.pth").write_text("".join(lines), encoding="utf-8")
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        if uv:
            _install_with_uv(uv, folder, python, requirements)
        else:
            # pip sees what is underneath as installed, and leaves it.
            _run([str(python), "-m", "pip", "install", "-q", "-r", str(folder / "requirements.txt")], requirements)
        (folder / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _make_locked(folder: Path, text: str, shown: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv")
    python, lock = folder / "bin" / "python", folder / "requirements.txt"
    try:
        _run([sys.executable, "-m", "venv", *(["--without-pip"] if uv else []), str(folder)], [shown])
        lock.write_text(text, encoding="utf-8")
        install = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
        # A lock names everything, also what it leaves out.
        _run([*install, "-q", "--no-deps", "--require-hashes", "-r", str(lock)], [shown])
        (folder / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unpack(folder: Path, lines: Sequence[str], shown: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    uv = shutil.which("uv")
    lock = folder / "requirements.txt"
    try:
        lock.write_text("\n".join(lines) + "\n", encoding="utf-8")
        python = [sys.executable, "-m", "pip", "install", "--no-compile"]
        install = [uv, "pip", "install", "--python", sys.executable] if uv else python
        hashes = ["--require-hashes"] if all("--hash=" in line for line in lines) else []
        _run([*install, "-q", "--no-deps", *hashes, "--target", str(folder / "files"), "-r", str(lock)], [shown])
        (folder / _COMPLETE).touch()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _install_with_uv(uv: str, folder: Path, python: Path, requirements: Sequence[str]) -> None:
    """Install what is missing; uv does not see what is underneath, so it gets it as versions to prefer."""
    present = {line.strip() for line in _run([uv, "pip", "freeze", "--python", sys.executable], requirements)}
    wanted = folder / "wanted.txt"
    wanted.write_text("\n".join(sorted(line for line in present if "==" in line)) + "\n", encoding="utf-8")
    resolve = [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--python", str(python)]
    _run([*resolve, str(folder / "requirements.txt"), "-o", str(wanted)], requirements)
    missing = [line for line in wanted.read_text(encoding="utf-8").splitlines() if line.strip() not in present]
    if missing:
        wanted.write_text("\n".join(missing) + "\n", encoding="utf-8")
        _run([uv, "pip", "install", "-q", "--no-deps", "--python", str(python), "-r", str(wanted)], requirements)


def _run(command: Sequence[str], requirements: Sequence[str]) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise EnvironmentMissing(f"cannot start {command[0]}: {error.strerror}") from None
    if done.returncode == 0:
        return done.stdout.splitlines()
    said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    raise EnvironmentMissing(
        f"the requirements {', '.join(requirements)} cannot be installed: {' '.join(said[-3:])[:500]}",
        "Correct them (`run.requirements` of a job), or the network and package index settings of this machine.",
    )


def _packages_of(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _site_packages() -> list[str]:
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def _installed(folders: Iterable[str]) -> list[str]:
    """Give `name-version.dist-info` of every package; reading the names of folders is all it costs."""
    found = []
    for folder in folders:
        with contextlib.suppress(OSError):
            found += [entry.name for entry in os.scandir(folder) if entry.name.endswith((".dist-info", ".egg-info"))]
    return sorted(found)


def _hash(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
