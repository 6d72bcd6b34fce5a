"""Bringing a folder of a snapshot to this machine, from wherever it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from dsflow.errors import EnvironmentMissing, JobFailed
from dsflow.sampling.places import on_this_machine
from dsflow.sampling.refusals import CopyNotFound

# Where the driver of a Databricks cluster sees its file system.
_MOUNTED = Path("/dbfs")


def copy_folder(address: str, into: Path, *, debug: bool = False) -> None:
    """Copy a folder with all that is in it.

    Args:
        address: A path, or a URL: `dbfs:/...` goes through the Databricks command line where it is not mounted, any
            other through the file system of fsspec that is installed for it.
        into: Where it goes; not there yet.
        debug: Have the Databricks command line tell what it does.

    Raises:
        CopyNotFound: there is no such folder.
        JobFailed: it cannot be copied.
        EnvironmentMissing: a program or a package for such addresses is missing.
    """
    here = on_this_machine(address)
    if address.startswith("dbfs:"):
        mounted = _MOUNTED / address.removeprefix("dbfs:").lstrip("/")
        here = mounted if mounted.is_dir() else None
    if here is not None:
        _from_this_machine(here, into)
    elif address.startswith("dbfs:"):
        _from_databricks(address, into, debug)
    else:
        from dsflow.sources.download import fetch_folder

        fetch_folder(address, into)


def _from_this_machine(folder: Path, into: Path) -> None:
    if not folder.is_dir():
        raise CopyNotFound(f"there is no sample at {folder}", "Save it: `save_sampled_data_sources(dry_run=False)`.")
    try:
        shutil.copytree(folder, into)
    except shutil.Error as error:
        [(source, _, why), *_] = error.args[0]
        raise JobFailed(f"{source} cannot be copied: {why}") from None


def _from_databricks(address: str, into: Path, debug: bool) -> None:
    command = ["databricks", "fs", "cp", *(["--debug"] if debug else []), "-r", address, str(into)]
    try:
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise EnvironmentMissing(
            f"{address} is on Databricks, and its command line `databricks` is not on PATH",
            "Install it (`databricks` in the documentation of Databricks) and log in with `databricks configure`.",
        ) from None
    if done.returncode != 0:
        raise JobFailed(f"the Databricks command line failed: {' '.join(command)}", "`databricks fs ls` must work.")
