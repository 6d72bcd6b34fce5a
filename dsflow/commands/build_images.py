"""`dsflow build-images`."""

from __future__ import annotations

from pathlib import Path

import click

from dsflow.commands.context import Context
from dsflow.errors import UsageError


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--base", envvar="DSFLOW_BASE_IMAGE", metavar="IMAGE", help="Build on this image instead of Debian's own."
)
@click.option(
    "--ca-bundle",
    envvar="DSFLOW_CA_BUNDLE",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Certificates that the network needs; by default those of SSL_CERT_FILE and its like.",
)
@click.option("--rebuild", is_flag=True, help="Build what is up to date too, from the start.")
@click.pass_obj
def build_images(
    context: Context, names: tuple[str, ...], base: str | None, ca_bundle: Path | None, rebuild: bool
) -> None:
    """Build the images that jobs run in, all or those named; what is up to date stays.

    Proxies, package indexes (pip's and uv's variables, pip.conf) and extra certificates of this machine are used for
    the build. Passwords do not stay in the image.
    """
    from dsflow.containers import images

    try:
        workspace = context.workspace
    except UsageError:
        workspace = None
    surroundings = images.Surroundings.of(workspace, base, ca_bundle)
    built = images.build(surroundings, context.console.note, names, rebuild=rebuild)
    if context.json:
        context.console.document({name: image.id for name, image in built.items()})
    else:
        context.console.table(["image", "id"], [[name, image.id[:19]] for name, image in built.items()])
