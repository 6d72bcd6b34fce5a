"""`dsflow serve`: let other programs run the jobs of the workspace over HTTP."""

from __future__ import annotations

import click

from dsflow.commands.context import Context
from dsflow.commands.plans import usual_workers


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Listen on 127.0.0.1 at this port too.")
@click.option("-j", "--jobs", "at_once", type=click.IntRange(1, 512), help="So many runs at once; the others wait.")
@click.option("--detach", is_flag=True, help="In the background; `dsflow serve --stop` ends it.")
@click.option("--stop", is_flag=True, help="End the server of this workspace, and what it runs.")
@click.pass_obj
def serve(context: Context, port: int | None, at_once: int | None, detach: bool, stop: bool) -> None:
    """Run jobs for other programs, over HTTP on a unix socket in the workspace.

    \b
    dsflow serve
    dsflow serve --detach
    dsflow serve --stop
    """
    from dsflow.serve import detached
    from dsflow.serve.places import Places

    console, workspace = context.console, context.workspace
    if stop:
        stopped = detached.stop(workspace)
        console.line("stopped" if stopped else "no server runs in this workspace")
        if context.json:
            console.document({"stopped": stopped})
    elif detach:
        places = detached.ensure_serving(workspace, port=port, at_once=at_once)
        console.line(f"serving at {places.socket}")
        if context.json:
            console.document({"socket": str(places.socket), "token_file": str(places.token), **places.read_card()})
    else:
        detached.check_extra()
        from dsflow.serve.server import serve as serve_here

        def ready(places: Places) -> None:
            where = f" and http://127.0.0.1:{port}/docs" if port else ""
            console.line(f"serving at {places.socket}{where} (Ctrl-C ends it)")

        serve_here(workspace, port=port, at_once=at_once or usual_workers(), ready=ready)
