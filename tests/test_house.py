"""The rules of the house: sizes, names, imports, and docs that know every command and every key."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from dsflow.cli import COMMANDS, dsflow
from dsflow.errors import EXIT_CODES
from dsflow.specs import legacy as specs_legacy
from dsflow.specs import models as specs_models
from dsflow.specs import testfile

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dsflow"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOCS = ROOT / "docs"

LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "core", "base", "manager", "common", "misc"}

# Each library has one module that knows it; everything else asks that module.
OWNERS = {
    "airflow": {"airflow"},
    "click": {"cli", "commands"},
    "cronsim": {"schedule"},
    "docker": {"containers.engine"},
    "duckdb": {"engines.duckdb", "engines.inference", "engines.locked"},
    "fsspec": {"sources.download"},
    "requests": {"sources.web"},
    "ipykernel": {"forked_kernel"},
    "jinja2": {"rendering"},
    "jupyter_client": {"kernel", "provisioner"},
    "jupytext": {"notebooks"},
    "mistune": {"notebook_page"},
    "nbclient": {"kinds.notebook"},
    "nbformat": {"kinds.notebook"},
    "papermill": {"kinds.notebook"},
    "pyarrow": {"engines.duckdb"},
    "pytest": {"testing.plugin"},
    "py4j": {"spark.gateway"},
    "pyspark": {"engines.spark", "spark.application", "spark.configuration", "spark.sessions"},
    "pydantic": {
        *("specs.errors", "specs.fields", "specs.legacy", "specs.load"),
        *("specs.models", "specs.sources", "specs.testfile"),
    },
    "starlette": {"serve"},
    "uvicorn": {"serve.server"},
    "yaml": {"specs.yaml"},
}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_a_module_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_MODULE
    long = {function.name: size for function in functions(path) if (size := lines(function)) > LONGEST_FUNCTION}
    assert long == {}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The length from `def` to the end, without the docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_no_module_is_called_something_that_says_nothing() -> None:
    assert {path.stem for path in MODULES if path.stem in FORBIDDEN_NAMES} == set()


def test_the_package_is_one_folder_deep() -> None:
    assert {len(path.relative_to(PACKAGE).parts) for path in MODULES} == {1, 2}


def test_root_folders_are_no_packages() -> None:
    assert [name for name in ("docker", "airflow", "templates", "jobs") if (ROOT / name / "__init__.py").exists()] == []


def test_every_public_function_and_class_has_a_docstring() -> None:
    without = [
        f"{path.name}: {node.name}"
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert without == []


def test_imports_point_down() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_each_library_has_one_owner() -> None:
    strangers = {
        f"{path.relative_to(PACKAGE)} imports {library}"
        for path in MODULES
        for library in imported(path)
        if library in OWNERS and not any(f"{module_of(path)}.".startswith(f"{owner}.") for owner in OWNERS[library])
    }
    assert strangers == set()


def module_of(path: Path) -> str:
    """The module of a file, without `dsflow.`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def test_every_library_is_a_declared_requirement() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name, lines in required["optional-dependencies"].items() if name != "dev" for line in lines]
    every = [*required["dependencies"], *extras]
    declared = {re.split(r"[^a-z0-9-]", line)[0].replace("-", "_") for line in every}
    names = {"yaml": "pyyaml", "zmq": "pyzmq", "pydantic_core": "pydantic", "IPython": "ipython"}
    used = {library for path in MODULES for library in imported(path)} - set(sys.stdlib_module_names) - {"dsflow"}
    # Where `dsflow.airflow` is imported, there is Airflow: the environment or the image of the service has it.
    used -= {"airflow"}
    assert {library for library in used if names.get(library, library) not in declared} == set()


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("module", ["shim", "job", "kinds.registry", "sources.download", "page"])
def test_the_job_side_starts_without_host_libraries(module: str) -> None:
    hidden = (
        "import sys; sys.modules.update(dict.fromkeys(['click', 'rich', 'pydantic', 'yaml', 'sqlalchemy', 'docker']))"
    )
    command = [sys.executable, "-P", "-c", f"{hidden}; import dsflow.{module}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [name for group in COMMANDS.values() for name in group])
def test_the_docs_explain_every_command_and_its_options(name: str) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = re.search(rf"^### `{re.escape(name)}(?![\w-]).*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/commands.md has no section for {name}"
    command = dsflow.get_command(click.Context(dsflow), name)
    assert command is not None
    options = {
        option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts
    }
    assert {option for option in options if f"`{option}" not in section[0] and f" {option}`" not in section[0]} == set()


def spec_keys() -> list[tuple[str, str]]:
    """Every key of every file a person writes, with the model it is in."""
    models = [
        model
        for model in {**vars(specs_models), **vars(specs_legacy)}.values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model is not BaseModel
    ]
    own = {"JobSpec"}  # made by dsflow from the file
    return [
        (model.__name__, field.alias or name)
        for model in models
        if model.__name__ not in own
        for name, field in model.model_fields.items()
    ]


@pytest.mark.parametrize(("model", "key"), spec_keys())
def test_the_docs_explain_every_key(model: str, key: str) -> None:
    text = (DOCS / "specs.md").read_text(encoding="utf-8")
    assert re.search(rf"`([a-z_.]+\.)?{re.escape(key)}`", text), f"docs/specs.md does not explain {key} ({model})"


@pytest.mark.parametrize("model", [testfile.TestFile, testfile.GivenSpec, testfile.ExpectedSpec])
def test_the_docs_explain_every_key_of_a_test(model: type[BaseModel]) -> None:
    text = (DOCS / "testing.md").read_text(encoding="utf-8")
    assert [key for key in model.model_fields if f"\n| `{key}` | " not in text] == []


@pytest.mark.parametrize("code", EXIT_CODES)
def test_the_docs_explain_every_exit_code(code: int) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert f"| {code} |" in text


def test_the_changelog_knows_the_version() -> None:
    from dsflow import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_between_the_docs_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "jobs" / "README.md"]
    broken = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert broken == []


def test_the_pictures_are_small_and_shown_somewhere() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *DOCS.glob("*.md")])
    pictures = list((DOCS / "pictures").iterdir())
    assert sum(picture.stat().st_size for picture in pictures) < 400_000
    assert [picture.name for picture in pictures if f"pictures/{picture.name}" not in text] == []


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_package_index() -> None:
    folders = r"(?<![\w.])/(?:root|work|opt/pypi|opt/wheels)/"
    indexes = r"index-url|find-links|https?://(?!127\.|localhost|[\w.-]*example)[\w.-]+(?::\d+)?/\S*simple\b"
    personal = re.compile(f"{folders}|{indexes}", re.IGNORECASE)
    allowed = {Path(__file__), ROOT / "dsflow" / "buildsettings.py", ROOT / "tests" / "test_buildsettings.py"}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        if path not in allowed and path.suffix != ".gz"
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if personal.search(line)
    ]
    assert found == []


def test_an_installed_package_brings_templates_images_and_the_sample(tmp_path: Path) -> None:
    build = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    script = (
        "import dsflow.generate.scaffold, dsflow.workspace, pathlib\n"
        "made = dsflow.generate.scaffold.sample_workspace(pathlib.Path('made'))\n"
        "print(dsflow.workspace.__file__, len(made.job_names()), *made.template_folders(), *made.docker_folders())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    inside = f"{tmp_path}/lib/dsflow"
    assert done.stdout.split() == [f"{inside}/workspace.py", "6", f"{inside}/templates", f"{inside}/docker"]
    assert (tmp_path / "lib" / "dsflow" / "page.html").is_file()
    assert (tmp_path / "lib" / "dsflow" / "py.typed").is_file()


def test_the_architecture_names_every_module() -> None:
    told = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    own = [path for path in MODULES if path.parent.name != "commands" and not path.name.startswith("__")]
    assert [path.stem for path in own if f"`{path.stem}`" not in told] == []
