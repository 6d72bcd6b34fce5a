"""The zip that Spark puts on the import path: the same bytes for the same files, and checked before anybody gets it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from dsflow.errors import EnvironmentMissing, PackageFailed
from dsflow.spark.java import spark_home

# The earliest that a zip can say.
_WHEN = (1980, 1, 1, 0, 0, 0)
_CHECK_SECONDS = 120
# What a cluster's own Python has, or may have.
_PROVIDED = ("dsflow", "numpy", "pandas", "py4j", "pyarrow", "pyspark")
# Runs in a Python without packages, and says as JSON what cannot be imported.
_CHECK = """
import ast, importlib, json, sys, traceback
main, zipped, provided, *more = json.loads(sys.argv[1])
sys.path[:0] = [zipped, *more]
modules = [name for name in json.loads(sys.argv[2]) if name.endswith(".py")]
names = {name[:-3].replace("/", ".").removesuffix(".__init__") for name in modules}
found = []
def tried(module, where, wanted=()):
    try:
        there = importlib.import_module(module)
        for name in wanted:
            if name != "*" and not hasattr(there, name):
                importlib.import_module(module + "." + name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in provided:
            found.append([where or place(error, module), str(error), error.name or ""])
    except BaseException as error:
        found.append([where or place(error, module), f"{type(error).__name__}: {error}", ""])
def place(error, module):
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(zipped)]
    last = frames[-1] if frames else None
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename.removeprefix(zipped).strip('/')}, line {error.lineno}"
    return f"{last.filename.removeprefix(zipped).strip('/')}, line {last.lineno}" if last else module
for name in sorted(names):
    tried(name, "")
try:
    text = b""
    if main:
        with open(main, "rb") as file:
            text = file.read()
    tree = ast.parse(text, main)
except SyntaxError as error:
    found.append([f"{main.rpartition('/')[2]}, line {error.lineno}", f"SyntaxError: {error.msg}", ""])
else:
    for node in tree.body:
        where = f"{main.rpartition('/')[2]}, line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                tried(alias.name, where)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            tried(node.module, where, [alias.name for alias in node.names])
print(json.dumps(found), file=sys.__stdout__)
"""


def write(path: Path, files: Mapping[str, Path]) -> None:
    """Write files into a zip, in the order of their names, with nothing in it that differs from day to day.

    Args:
        path: The zip.
        files: File by name in the zip.
    """
    folders = {f"{parent}/" for name in files for parent in PurePosixPath(name).parents if str(parent) != "."}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # A folder without an `__init__.py` can be imported only where the zip names it.
        for name in sorted([*folders, *files]):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_STORED if name in folders else zipfile.ZIP_DEFLATED
            entry.external_attr = (0o40755 << 16 | 0x10) if name in folders else 0o100644 << 16
            archive.writestr(entry, b"" if name in folders else files[name].read_bytes())


def check(path: Path, main: Path | None, modules: Sequence[str]) -> None:
    """Import what is in a zip, and what a program imports, in a Python that has nothing else but Spark.

    Args:
        path: The zip.
        main: A program, whose imports are tried; it is not executed.
        modules: Files of the zip; those that are modules are imported.

    Raises:
        PackageFailed: something cannot be imported.
    """
    try:
        library = spark_home() / "python" / "lib"
    except EnvironmentMissing:
        library = Path()
    told = [str(main or ""), str(path), _PROVIDED, *sorted(map(str, library.glob("*.zip")))]
    command = [sys.executable, "-I", "-S", "-B", "-c", _CHECK, json.dumps(told), json.dumps([*modules])]
    try:
        done = subprocess.run(
            command,
            cwd=path.parent,
            env={"PATH": "", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CHECK_SECONDS,
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise PackageFailed(f"importing the modules of the package takes longer than {_CHECK_SECONDS} s") from None
    except (ValueError, IndexError):
        said = (done.stderr.strip().splitlines() or ["Python ended"])[-1]
        raise PackageFailed(f"the package cannot be imported: {said}") from None
    if found:
        where, problem, missing = found[0]
        hint = "Correct it; the package was imported in a Python that has nothing but Spark."
        if missing:
            name = missing.partition(".")[0]
            hint = f"Where {name} is a package, lock it; where it is a folder of this workspace, name it in `modules`."
        raise PackageFailed(f"{where}: {problem}", hint)
