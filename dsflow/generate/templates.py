"""Makes a job from a template: a folder with `template_specs.yaml` and files whose `.j2` ones are filled in."""

from __future__ import annotations

import difflib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dsflow import codecells, durable
from dsflow.errors import UsageError, did_you_mean
from dsflow.notebooks import read_notebook, source_of
from dsflow.rendering import render
from dsflow.specs.load import TemplateParameter, TemplateSpec, json_schema, load_job
from dsflow.specs.yaml import SpecError, read_mapping, read_text
from dsflow.workspace import JOB_SPECS, TEMPLATE_SPECS, Workspace, check_name

# these become the job's main file, whatever name its spec gives it
_MAIN_SOURCES = ("notebook.py.j2", "script.sh.j2", "script.py.j2", "dashboard.py.j2", "query.sql.j2")
_NOT_COPIED = (TEMPLATE_SPECS, f"{JOB_SPECS}.j2", "verify", "__pycache__")
_SCHEMA = ".job_specs.schema.json"
_A_NUMBER = {"integer": "a whole number", "number": "a number"}
_YES_NO = {"yes": True, "y": True, "true": True, "1": True, "no": False, "n": False, "false": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a person wants made.

    Attributes:
        template: The template's folder.
        spec: Its specs.
        dataset: The name given on the command line.
        ds: The date that examples in the job's README are for.
        answers: A value for every parameter of the template.
        sample: What was found in a sample of the data, or None.
    """

    template: Path
    spec: TemplateSpec
    dataset: str
    ds: str
    answers: Mapping[str, Any]
    sample: Mapping[str, Any] | None = None

    @property
    def job(self) -> str:
        """The name of the job."""
        prefix = self.spec.job_name_prefix
        return f"{prefix}-{self.dataset}" if prefix else self.dataset

    @property
    def values(self) -> dict[str, Any]:
        """What the template's files can use."""
        return {
            **self.answers,
            "job_name": self.job,
            "dataset_name": self.dataset,
            "ds": self.ds,
            "sample": self.sample,
        }


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A finished job that is not in `jobs/` yet; `folders` are those it wants in the datastore."""

    job: str
    folder: Path
    folders: tuple[Path, ...]

    @property
    def files(self) -> list[str]:
        """The names of its files, sorted."""
        return sorted(str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file())


def default_of(question: TemplateParameter, dataset: str) -> Any:
    """Give the default answer of a question (which may hold `{{ dataset_name }}`), or None where there is none."""
    if isinstance(question.default, str):
        return render(question.default, {"dataset_name": dataset}, f"the default of {question.name}")
    return False if question.default is None and question.type == "boolean" else question.default


def answer_of(question: TemplateParameter, text: str) -> Any:
    """Give a typed answer from what a person wrote.

    Raises:
        UsageError: it is no such value.
    """
    wrong = f"{question.name}={text}"
    if question.type == "boolean":
        if text.strip().lower() not in _YES_NO:
            raise UsageError(f"{wrong}: answer yes or no")
        return _YES_NO[text.strip().lower()]
    if question.type in ("integer", "number"):
        try:
            return int(text) if question.type == "integer" else float(text)
        except ValueError:
            raise UsageError(f"{wrong}: this is not {_A_NUMBER[question.type]}") from None
    if question.type == "choice" and text not in question.choices:
        guess = did_you_mean(text, question.choices)
        raise UsageError(f"{wrong}: not one of {', '.join(question.choices)}{guess}")
    if question.pattern and not re.fullmatch(question.pattern, text):
        raise UsageError(f"{wrong}: does not look like {question.pattern}", question.help)
    return text


def answers_of(spec: TemplateSpec, dataset: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Give an answer for every parameter: the given one, else the default.

    Raises:
        UsageError: a given name is unknown, a value has the wrong type, or answers are missing (all are named).
    """
    known = {question.name: question for question in spec.template_parameters}
    for name in given:
        if name not in known:
            hint = f"It asks for: {', '.join(known)}." if known else "It asks for nothing."
            raise UsageError(f"--set {name}: the template has no such question{did_you_mean(name, known)}", hint)
    answers = {name: answer_of(known[name], text) for name, text in given.items()}
    for name, question in known.items():
        answers.setdefault(name, default_of(question, dataset))
    missing = [name for name, answer in answers.items() if answer is None]
    if missing:
        needed = " ".join(f"--set {name}=..." for name in missing)
        raise UsageError(f"the template needs an answer for {', '.join(missing)}", f"Add {needed}")
    return answers


@contextmanager
def draft(workspace: Workspace, order: Order, *, aside: Path | None = None) -> Iterator[Draft]:
    """Make the job in a folder aside and check it; the folder is gone afterwards.

    Args:
        workspace: The workspace.
        order: What is wanted.
        aside: Where that folder is made; `publish` needs it on the disk of `jobs/`. By default where temporary
            files go.

    Raises:
        UsageError: the name is no valid name, a file of the template is wrong, or it makes an invalid job.
    """
    check_name(order.dataset, "job")
    check_name(order.job, "job")
    folders = tuple(_wanted_folder(workspace, text, order) for text in order.spec.mkdir)
    with tempfile.TemporaryDirectory(dir=aside, prefix=".dsflow-new-") as scratch:
        copy = Workspace(Path(scratch))
        folder = copy.jobs / order.job
        folder.mkdir(parents=True)
        _fill(order, folder)
        _check(copy, order.job)
        yield Draft(job=order.job, folder=folder, folders=folders)


def differences(made: Draft, existing: Path) -> list[str]:
    """Give the lines of a diff from the files of an existing job (or of none) to those of a draft."""
    lines: list[str] = []
    for name in made.files:
        old, new = _shown(existing / name), _shown(made.folder / name)
        label = f"jobs/{made.job}/{name}"
        before = label if (existing / name).exists() else "/dev/null"
        lines += difflib.unified_diff(old, new, before, label, lineterm="")
    return lines


def publish(workspace: Workspace, made: Draft, *, force: bool = False) -> list[tuple[str, Path]]:
    """Put a draft into `jobs/` at once, or not at all.

    Args:
        workspace: The workspace.
        made: The draft, made with `aside=workspace.jobs`.
        force: Replace the files of an existing job; its other files stay.

    Returns:
        What was done (`new directory`, `new file`, `changed file`, `same file`) with each path.

    Raises:
        UsageError: the job exists and `force` is not given, or its folder is a link.
    """
    target = workspace.jobs / made.job
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"jobs/{made.job} is not a folder of its own", "Move it away, or take another name.")
    report = [("new directory", target)] if not target.exists() else []
    report += [(_change(made.folder / name, target / name), target / name) for name in made.files]
    if target.exists() and any(target.iterdir()):
        if not force:
            raise UsageError(f"jobs/{made.job} exists already", "Add --force to replace it, or take another name.")
        _replace(made.folder, target)
    else:
        made.folder.rename(target)
    _write_schema(workspace)
    for folder in made.folders:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            report.append(("new directory", folder))
    return report


def _fill(order: Order, folder: Path) -> None:
    """Write every file of the job; which one is the main file is known from the spec, so the spec comes first."""
    where = f"{order.template.name}/{JOB_SPECS}.j2"
    specs = folder / JOB_SPECS
    specs.write_text(render(read_text(order.template / f"{JOB_SPECS}.j2", where), order.values, where), "utf-8")
    found = read_mapping(specs, where)
    main = str(found.get("main") or found.get("script") or "")
    if PurePosixPath(main).is_absolute() or ".." in PurePosixPath(main).parts:
        raise UsageError(f"{where}: main: {main} is outside the job")
    for source in _sources(order.template):
        name = str(source.relative_to(order.template))
        target = folder / (main if name in _MAIN_SOURCES and main else name.removesuffix(".j2"))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith(".j2"):
            shutil.copy(source, target)
            continue
        where = f"{order.template.name}/{name}"
        text = render(read_text(source, where), order.values, where)
        target.write_text(_as_notebook(text, where, folder.parent) if target.suffix == ".ipynb" else text, "utf-8")
        if name == "script.sh.j2" or text.startswith("#!"):
            target.chmod(0o755)


def _check(copy: Workspace, job: str) -> None:
    try:
        load_job(copy, job)
    except SpecError as error:
        here = copy.shown(copy.jobs)
        mistakes = [mistake.replace(here, "jobs", 1) for mistake in error.mistakes]
        raise SpecError(mistakes, "The template makes an invalid job; correct its job_specs.yaml.j2.") from None


def _sources(template: Path) -> list[Path]:
    """Give the files of a template that go into the job."""
    base = template.resolve()
    found = []
    for path in sorted(template.rglob("*")):
        parts = path.relative_to(template).parts
        if parts[0] in _NOT_COPIED or any(part.startswith(".") for part in parts) or path.is_dir():
            continue
        if not path.resolve().is_relative_to(base):
            raise UsageError(f"{template.name}/{'/'.join(parts)} is a link that leaves the template")
        found.append(path)
    return found


def _as_notebook(text: str, where: str, scratch: Path) -> str:
    """Give the notebook that a text with `# <codecell>` lines, or else with `# %%` lines, stands for."""
    if codecells.is_marked(text):
        notebook = codecells.to_notebook(text)
    else:
        percent = scratch / "notebook.py"
        percent.write_text(text, "utf-8")
        notebook = read_notebook(percent, where)
    for index, cell in enumerate(notebook["cells"], 1):
        cell["id"] = f"cell-{index}"  # so that the same text gives the same file
        cell["source"] = source_of(cell).strip("\n").splitlines(keepends=True)
    return codecells.dump_notebook({**notebook, "metadata": codecells.METADATA})


def _wanted_folder(workspace: Workspace, text: str, order: Order) -> Path:
    where = f"{order.template.name}/{TEMPLATE_SPECS}: mkdir"
    wanted = render(text, order.values, where)
    inside = PurePosixPath(wanted.removeprefix("datastore:").lstrip("/"))
    if not wanted.startswith("datastore:") or ".." in inside.parts or not inside.parts:
        raise UsageError(f"{where}: {wanted} is not in the datastore", "Write it like datastore://raw/NAME.")
    return workspace.datastore / inside


def _shown(path: Path) -> list[str]:
    """Give a file as lines a person can read: notebooks as text, nothing for a missing file."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, OSError):
        return ["(not text)"]
    if path.suffix == ".ipynb":
        try:
            return codecells.to_text(read_notebook(path, path.name)).splitlines()
        except UsageError:
            pass
    return text.splitlines()


def _write_schema(workspace: Workspace) -> None:
    """Write the JSON schema that the first line of the jobs' specs names, for editors."""
    path, text = workspace.jobs / _SCHEMA, json.dumps(json_schema("job"), indent=1) + "\n"
    if not path.is_file() or path.read_text("utf-8") != text:
        durable.write_text(path, text)


def _change(new: Path, old: Path) -> str:
    if not old.is_file():
        return "new file"
    return "same file" if new.read_bytes() == old.read_bytes() else "changed file"


def _replace(made: Path, target: Path) -> None:
    """Lay the new files over a copy of the job, then swap the copy and the job."""
    merged = made.parent / ".merged"
    shutil.copytree(target, merged, symlinks=True)
    shutil.copytree(made, merged, dirs_exist_ok=True)
    if not durable.exchange(merged, target):
        target.rename(made.parent / ".old")
        merged.rename(target)
