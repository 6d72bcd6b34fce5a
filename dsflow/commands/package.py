"""`dsflow package` and `dsflow submit`: a job for `spark-submit`."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsflow.commands.completion import jobs as complete_jobs
from dsflow.commands.context import Context
from dsflow.errors import UsageError

if TYPE_CHECKING:
    from dsflow.specs.load import WorkspaceSpec


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.option(
    "--into", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Put it there; made if missing."
)
@click.pass_obj
def package(context: Context, job: str, into: Path | None) -> None:
    """Make what `spark-submit` needs for JOB: packages.zip, the config and the program.

    The zip holds the modules beside the program, the shared ones (`modules`, usually the folder dependencies), and the
    locked requirements (Pipfile.lock, pylock.toml or requirements.lock). Before it is there, all of that is imported
    in a Python that has nothing but Spark.
    """
    from dsflow.packaging import bundle
    from dsflow.specs.load import load_job

    workspace, console = context.workspace, context.console
    made = bundle.package(workspace, context.settings, load_job(workspace, job), console.note)
    folder = _copied(made.folder, into) if into else made.folder
    config = folder / made.config.name if made.config else None
    zipped, main = folder / made.zip.name, folder / made.main.name
    if context.json:
        sent = {"zip": str(zipped), "config": str(config) if config else None, "main": str(main)}
        console.document({"job": job, **sent, "hash": made.key})
        return
    console.line(f"Packaged {job}: {workspace.shown(zipped)}")
    files = ["--files", workspace.shown(config)] if config else []
    words = ["--py-files", workspace.shown(zipped), *files, workspace.shown(made.main)]
    console.line(f"  next: dsflow submit {job}, or by hand")
    console.line(f"  spark-submit {shlex.join(words)}")


def _copied(folder: Path, into: Path) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if not path.name.startswith("."):
            shutil.copyfile(path, into / path.name)
    return into


@click.command()
@click.argument("job", shell_complete=complete_jobs)
@click.argument("arguments", nargs=-1, metavar="[DS] [PARAMETERS]...")
@click.option("--master", metavar="URL", help="Where it computes: local[*], spark://HOST:PORT, yarn or k8s://URL.")
@click.option("--deploy-mode", type=click.Choice(["client", "cluster"]), help="Where the program itself runs.")
@click.option("--conf", "settings", multiple=True, metavar="K=V", help="A setting of Spark; can be repeated.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; can be repeated.")
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    job: str,
    arguments: tuple[str, ...],
    master: str | None,
    deploy_mode: str | None,
    settings: tuple[str, ...],
    params: tuple[str, ...],
) -> None:
    """Package JOB, send it to a Spark cluster by `spark-submit`, and record and publish it like any other run.

    \b
    dsflow submit clean-events 2026-11-20 --master spark://host:7077
    dsflow submit clean-events 2026-11-20 --env prod --conf spark.executor.memory=4g
    """
    from dsflow.commands.run import carry_out
    from dsflow.prepare import prepare

    context: Context = ctx.obj
    mode = {"spark.submit.deployMode": deploy_mode} if deploy_mode else {}
    there = _with(context, {"master": master} if master else {}, {**_pairs(settings), **mode})
    chosen = prepare(context.workspace, there, job, arguments, params, runtime="submit")
    ctx.exit(carry_out(context, chosen))


def _with(context: Context, place: dict[str, Any], settings: dict[str, str]) -> WorkspaceSpec:
    """Give the settings of the workspace with those of the command line over them."""
    from dsflow.specs.load import load_workspace

    spark = {**place, **({"settings": settings} if settings else {})}
    given = {"environment": context.environment, "spark": spark or None}
    return load_workspace(context.workspace, given)


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise UsageError(f"--conf {text[:60]}: expected NAME=VALUE", "`--conf spark.executor.memory=4g`")
        found[name.strip()] = value
    return found
