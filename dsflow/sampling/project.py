"""The file in which a project says what it reads: `dsflow_sources.py` in a workspace, `ddataflow_config.py` elsewhere.

Both are the same: a Python module with a `DDataflow` called `ddataflow_client` or `ddataflow`, or with its arguments in
a dict called `config`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from dsflow.durable import write_text
from dsflow.errors import DsflowError, UsageError
from dsflow.sampling.refusals import SETUP, ProjectNotFound

IN_A_WORKSPACE = "dsflow_sources.py"
ELSEWHERE = "ddataflow_config.py"
# The first of them counts where a folder has both.
NAMES = (IN_A_WORKSPACE, ELSEWHERE)
_OBJECTS = ("ddataflow_client", "ddataflow")

_TEMPLATE = '''"""What this project reads and writes, and how little of it is enough for trying things out."""

from dsflow.sampling import DDataflow

config = {
    "project_folder_name": "PROJECT",
    "data_sources": {
        # A table, and the rows of it that a sample keeps.
        "events": {
            "source": lambda spark: spark.table("events"),
            "filter": lambda df: df.filter("amount > 0").limit(1000),
        },
        # Without `source` it is the table of that name; `default_sampling` keeps yesterday's rows, at most 100,000.
        "customers": {"default_sampling": True},
    },
    "data_writers": {
        # Called where sampling is off. Where it is on, the rows go to the project's folder of samples.
        "reports.daily": {"writer": lambda df, name, spark: df.write.mode("overwrite").saveAsTable(name)},
    },
    "data_source_size_limit_gb": 1,
}

ddataflow_client = DDataflow(**config)
'''


def find_project(start: Path) -> Path | None:
    """Give the file of the project around a folder: in it, or in the next one above that has one."""
    files = (folder / name for folder in (start, *start.parents) for name in NAMES)
    return next((file for file in files if file.is_file()), None)


def load_project(file: Path) -> Any:
    """Execute a project's file and give what it defines: its object, or the arguments of one as a dict.

    Raises:
        ProjectNotFound: it defines neither.
        UsageError: it cannot be executed.
    """
    module = _module(file)
    for name in _OBJECTS:
        if hasattr(module, name):
            return getattr(module, name)
    config = getattr(module, "config", None)
    if isinstance(config, Mapping):
        return dict(config)
    raise ProjectNotFound(
        f"{file} defines no {_OBJECTS[0]}, no {_OBJECTS[1]} and no dict `config`",
        f"Write `{_OBJECTS[0]} = DDataflow(**config)` at its end.",
    )


def write_project(folder: Path, force: bool) -> Path:
    """Write a project's file with examples, and give it.

    Raises:
        UsageError: there is one already, and `force` is false.
    """
    file = folder / (IN_A_WORKSPACE if (folder / "dsflow.yml").is_file() else ELSEWHERE)
    there = next((folder / name for name in NAMES if (folder / name).exists()), None)
    if there is not None and not (force and there == file):
        hint = f"`{SETUP} --force` replaces it." if there == file else f"One of both is enough; move {there.name} away."
        raise UsageError(f"{there.name} is there already", hint)
    name = re.sub(r"[^\w.-]", "_", folder.name).lstrip(".") or "project"
    write_text(file, _TEMPLATE.replace("PROJECT", name))
    return file


def _module(file: Path) -> ModuleType:
    """Import a file, once; under its own name, so that `from ddataflow_config import ...` gives the same object."""
    name = file.stem
    loaded = sys.modules.get(name)
    if loaded is not None and _is_of(loaded, file):
        return loaded
    folder = str(file.parent)
    if folder not in sys.path:
        # It imports what lies beside it.
        sys.path.append(folder)
    if loaded is not None:
        # That of another project, which keeps the name.
        name = f"{name}_{abs(hash(file)):x}"
        if name in sys.modules:
            return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except DsflowError:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise _broken(file, error) from error
    return module


def _broken(file: Path, error: Exception) -> UsageError:
    """Give the refusal of a file that fails, with its last line that was executed."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name == "ddataflow":
        hint = "Write `from dsflow.sampling import DDataflow` instead."
    where = f"{file}, line {line}" if line else str(file)
    told = "".join(traceback.format_exception(error))
    return UsageError(f"{where}: {type(error).__name__}: {str(error).partition(chr(10))[0]}", hint, traceback=told)


def _is_of(module: ModuleType, file: Path) -> bool:
    own = getattr(module, "__file__", None)
    return own is not None and Path(own).resolve() == file.resolve()
