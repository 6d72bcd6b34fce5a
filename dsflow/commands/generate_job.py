"""`dsflow generate-job`: list the templates, or make a job from one."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands.completion import templates as complete_templates
from dsflow.commands.context import Context
from dsflow.errors import DsflowError, EnvironmentMissing, UsageError

if TYPE_CHECKING:
    from dsflow.generate.sources import Source
    from dsflow.generate.templates import Draft, Order
    from dsflow.specs.load import TemplateSpec

_USAGE = "dsflow generate-job TEMPLATE NAME [--set KEY=VALUE]..."
_EXAMPLE = "dsflow generate-job download_file my_dataset"


@click.command()
@click.argument("template", required=False, shell_complete=complete_templates)
@click.argument("name", required=False)
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Answer a question of the template.")
@click.option("--sample", type=click.Path(path_type=Path), metavar="FILE", help="Take the columns from this file.")
@click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
@click.option("--force", is_flag=True, help="Replace the files of a job that exists.")
@click.option("-y", "--no-input", is_flag=True, help="Ask nothing; take the defaults.")
@click.option("--update", is_flag=True, help="Fetch the git repositories named in dsflow.yml again.")
@click.pass_obj
def generate_job(
    context: Context,
    template: str | None,
    name: str | None,
    given: tuple[str, ...],
    sample: Path | None,
    dry_run: bool,
    force: bool,
    no_input: bool,
    update: bool,
) -> None:
    """Make job NAME from a TEMPLATE; without arguments, list the templates.

    TEMPLATE is a name from the list, the folder of a template, or a git URL (git+https://host/repository.git#folder).
    On a terminal its questions are asked; with --set, -y or elsewhere they are not.
    """
    from dsflow.generate.sources import all_templates, find_template
    from dsflow.generate.templates import answers_of

    known, problems = all_templates(context.workspace, context.settings.templates, fresh=update)
    for problem in problems:
        context.console.note(f"warning: {problem.message}")
    if template is None:
        _list(context, known)
        return
    source = find_template(context.workspace, template, known)
    if name is None:
        raise UsageError(f"generate-job {template}: the NAME is missing", f"Usage: {_USAGE}")
    asking = not (given or no_input) and sys.stdin.isatty()
    order = _order(context, source, name, sample)
    if asking and not (force or dry_run) and (context.workspace.jobs / order.job).exists():
        raise UsageError(
            f"jobs/{order.job} exists already",
            "Add --force to replace it, --dry-run to see what would change, or take another name.",
        )
    said = _ask(order.spec, name) if asking else dict(_pair(text) for text in given)
    order = dataclasses.replace(order, answers=answers_of(order.spec, name, said))
    try:
        _make(context, order, dry_run=dry_run, force=force)
    except BrokenPipeError:  # whoever reads our lines has seen enough
        raise
    except OSError as error:
        raise EnvironmentMissing(
            f"cannot write {error.filename or 'jobs/'}: {error.strerror}", "Make jobs/ yours to write."
        ) from error


def _list(context: Context, known: dict[str, Source]) -> None:
    rows = [(name, _description(source), source.origin) for name, source in known.items()]
    if context.json:
        keys = ("name", "description", "origin")
        context.console.document([dict(zip(keys, row, strict=True)) for row in rows])
        return
    width = max((len(name) for name, *_ in rows), default=0)
    lines = [f"  {name.ljust(width)}  {description}".rstrip() for name, description, _ in rows]
    for line in (f"Usage: {_USAGE}", "", "Templates:", *lines, "", "For instance:", f"  $ {_EXAMPLE}"):
        context.console.line(line)


def _description(source: Source) -> str:
    from dsflow.specs.load import load_template

    try:
        return load_template(source.folder).description or f"from {source.origin}"
    except DsflowError as error:
        return f"cannot be used: {error.message.splitlines()[0]}"


def _order(context: Context, source: Source, name: str, sample: Path | None) -> Order:
    """Give what is to be made, but for the answers: what is wrong with the rest is said before any question."""
    from dsflow.generate.templates import Order
    from dsflow.partitions import resolve
    from dsflow.specs.load import load_template
    from dsflow.workspace import check_name

    check_name(name, "job")
    spec = load_template(source.folder)
    return Order(
        template=source.folder,
        spec=spec,
        dataset=name,
        ds=resolve("today"),
        answers={},
        sample=_sample(context, spec, source, sample),
    )


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--set {text}: there is no '='", "Write it like --set source_url=https://...")
    return key, value


def _ask(spec: TemplateSpec, name: str) -> dict[str, str]:
    from dsflow.generate.templates import answer_of, default_of

    answers: dict[str, str] = {}
    for question in spec.template_parameters:
        text, default = question.text or question.name, default_of(question, name)
        shown = question.type != "boolean"
        if question.type == "boolean":
            text, default = f"{text} [{'Y/n' if default else 'y/N'}]", "yes" if default else "no"
        kind = click.Choice(question.choices) if question.type == "choice" else None
        while True:
            said = str(click.prompt(text, default=default, show_default=shown, type=kind, err=True))
            try:
                answer_of(question, said)
            except UsageError as error:
                click.echo(f"  {error.message}", err=True)
                continue
            answers[question.name] = said
            break
    return answers


def _sample(context: Context, spec: TemplateSpec, source: Source, sample: Path | None) -> dict[str, Any] | None:
    from dsflow.engines.inference import infer_schema
    from dsflow.inputs import local

    if sample is None:
        return None
    if spec.schema_from == "none":
        raise UsageError(f"--sample: template {source.folder.name} takes no sample of the data")
    return infer_schema(Path(local(str(sample), context.workspace.datastore)), spec.schema_from).document()


def _make(context: Context, order: Order, *, dry_run: bool, force: bool) -> None:
    from dsflow.generate.templates import differences, draft, publish

    jobs = context.workspace.jobs
    if not dry_run:
        jobs.mkdir(exist_ok=True)
    with draft(context.workspace, order, aside=None if dry_run else jobs) as made:
        existing = jobs / made.job
        if dry_run or (not force and existing.exists()):
            changes = differences(made, existing)
            for line in changes:
                context.console.line(line)
            if not changes:
                context.console.line(f"jobs/{made.job} is already what the template makes.")
        if not dry_run:
            _report(context, made, publish(context.workspace, made, force=force))
        elif context.json:
            context.console.document({"job": made.job, "files": made.files, "written": False})
        elif existing.exists() and not force:
            context.console.note(f"jobs/{made.job} exists already; nothing was written. --force would replace it.")


def _report(context: Context, made: Draft, done: Sequence[tuple[str, Path]]) -> None:
    paths = [(what, context.workspace.shown(path)) for what, path in done]
    if context.json:
        context.console.document({"job": made.job, "files": made.files, "written": True})
        return
    for what, path in paths:
        context.console.line(f"     {what:<16} {path}")
    readme = context.workspace.jobs / made.job / "README.md"
    if readme.is_file():
        context.console.prose(f"\nInstructions:\n\n{readme.read_text('utf-8').rstrip()}")
