"""The config file of a Spark program: a JSON object in a file whose name ends in `config.json`.

Where it is depends on how the program was started: sent along with `spark-submit --files`, which puts it into a folder
of Spark's, into the folder the driver works in, or nowhere near the driver; or beside the program. The choice never
depends on the order in which a disk lists its files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from dsflow.errors import UsageError

_ENDING = "config.json"
# Where Spark remembers what `--files` named: YARN has a setting of its own.
_SENT = ("spark.files", "spark.yarn.dist.files")
_FOLDER = "configs"


def is_config(file: str) -> bool:
    """Say whether a file is a config, by its name."""
    return file.endswith(_ENDING)


def located(file: str) -> str:
    """Give a file that a program names, where it is: from the current folder, the program's, or the two above that.

    An address such as `s3://...` is given back as it is.

    Raises:
        UsageError: there is no such file.
    """
    if "://" in file:
        return file
    places = [folder / file for folder in _near()]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UsageError(f"the file {file} does not exist", f"Looked for: {', '.join(map(str, places))}")
    return str(found.resolve())


def beside(named: Sequence[str]) -> list[str]:
    """Give the configs of a program that nothing was sent to: those it names, else those of the folder `configs`.

    Raises:
        UsageError: one that it names does not exist.
    """
    if configs := [located(file) for file in named if is_config(file)]:
        return configs
    folder = Path.cwd() / _FOLDER
    return sorted(map(str, folder.glob(f"*{_ENDING}")))


def sent(session: Any, named: Sequence[str]) -> list[str]:
    """Give the configs that were sent with a program: first one that it names, else in the order of sending.

    Where none was sent it is the one that the program names, if that is at hand.

    Args:
        session: The SparkSession.
        named: The files that the program names.

    Raises:
        UsageError: the program names one, none was sent, and it is not at hand.
    """
    there = _sent_to_driver(session)
    wanted = [PurePosixPath(file).name for file in named if is_config(file)]
    if there:
        names = [name for name in wanted if name in there]
        return [there[name] for name in [*names, *(name for name in there if name not in names)]]
    if not wanted:
        return []
    try:
        return beside(named)
    except UsageError:
        file = next(file for file in named if is_config(file))
        raise UsageError(
            f"the config {file} was not sent with the job, and is not on this machine",
            f"Add `--files {file}` to spark-submit.",
        ) from None


def read(place: str, session: Any = None) -> dict[str, Any]:
    """Read a config.

    Args:
        place: A file, or an address that Spark can read.
        session: The SparkSession, for an address.

    Raises:
        UsageError: it is no JSON object.
    """
    name = PurePosixPath(place).name
    if "://" in place:
        text = session.read.text(place, wholetext=True).first()[0]
    else:
        text = Path(place).read_text(encoding="utf-8-sig", errors="replace")
    try:
        config = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} is not valid JSON: {error}", f"Mend {place}") from None
    if not isinstance(config, dict):
        raise UsageError(
            f"{name} has no JSON object in it, but a {type(config).__name__}",
            f'Write {{"name": value, ...}} into {place}',
        )
    return config


def is_of_the_program(module: str) -> bool:
    """Say whether a module lies beside the program, or in one of the two folders above."""
    return any((folder / module).is_dir() or (folder / f"{module}.py").is_file() for folder in _near())


def _near() -> list[Path]:
    """Give the folders in which a program's own files may be."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    program = Path(main).resolve().parent if main else Path.cwd()
    return list(dict.fromkeys([Path.cwd(), program, program.parent, program.parent.parent]))


def _sent_to_driver(session: Any) -> dict[str, str]:
    """Give the configs that Spark has here, by name, in the order in which they were sent."""
    try:
        settings = session.sparkContext.getConf()
    except AttributeError:
        # A server elsewhere has them.
        return {}
    from pyspark import SparkFiles

    addresses = [part for key in _SENT for part in settings.get(key, "").split(",") if is_config(part)]
    folders = [SparkFiles.getRootDirectory(), *([str(Path.cwd())] if _works_in_a_folder_of_its_own(settings) else [])]
    there = {name: path for folder in reversed(folders) for name, path in _configs_in(folder)}
    for address in addresses:
        name = PurePosixPath(urlsplit(address).path).name
        if name not in there and (place := _place_of(address)):
            there[name] = place
    order = [PurePosixPath(urlsplit(address).path).name for address in addresses]
    return {name: there[name] for name in dict.fromkeys([*order, *sorted(there)]) if name in there}


def _works_in_a_folder_of_its_own(settings: Any) -> bool:
    """Say whether the driver runs on the cluster, which puts the files into the folder that it works in."""
    on_kubernetes = bool(settings.get("spark.kubernetes.submitInDriver", "") == "true")
    return on_kubernetes or bool(settings.get("spark.submit.deployMode", "") == "cluster")


def _configs_in(folder: str) -> Iterable[tuple[str, str]]:
    return [(path.name, str(path)) for path in Path(folder).glob(f"*{_ENDING}")]


def _place_of(address: str) -> str | None:
    """Give where what was sent came from, if it can be read from there; None for a file of another machine."""
    parts = urlsplit(address)
    if parts.scheme not in ("", "file", "local"):
        return address
    path = unquote(parts.path) if parts.scheme else address
    return path if Path(path).is_file() else None
