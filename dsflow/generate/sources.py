"""Where templates come from: the workspace, dsflow itself, folders, and git repositories."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsflow import cache
from dsflow.errors import DsflowError, EnvironmentMissing, UsageError, did_you_mean
from dsflow.workspace import TEMPLATE_SPECS, Workspace

# `ext::` would run any command that a URL holds; git's other transports that are not named here are of no use.
_PROTOCOLS = "https:http:ssh:git:file"
_GIT = re.compile(r"(?:git\+)?(?P<url>(?:https?|ssh|git|file)://(?!-)[^#\s]+)(?:#(?P<inside>.*))?")
_PLAIN_GIT = re.compile(r"(?:https?|ssh|git|file)://[^#]+\.git(?:#.*)?")
_TIMEOUT = 120


@dataclass(frozen=True)
class Source:
    """A template's folder, and in a few words where it is from."""

    folder: Path
    origin: str


def all_templates(
    workspace: Workspace, configured: Iterable[str], *, fresh: bool = False
) -> tuple[dict[str, Source], list[DsflowError]]:
    """Give every template by name, sorted, and the sources that cannot be had right now.

    The workspace's own templates come before those of the sources in `dsflow.yml`, and these before dsflow's own.

    Args:
        workspace: The workspace.
        configured: Folders (relative to the workspace) and git URLs from `templates:` in `dsflow.yml`.
        fresh: Fetch git repositories again that were fetched before.
    """
    folders = [(folder / "jobs", workspace.shown(folder / "jobs")) for folder in workspace.template_folders()]
    own = [entry for entry in folders if entry[0].is_relative_to(workspace.root)]
    problems: list[DsflowError] = []
    for reference in configured:
        try:
            own.append((_configured(workspace, reference, fresh), reference))
        except DsflowError as error:
            problems.append(error)
    found: dict[str, Source] = {}
    for folder, origin in [*own, *(entry for entry in folders if entry not in own)]:
        for template in _templates_in(folder):
            found.setdefault(template.name, Source(template, origin))
    return dict(sorted(found.items())), problems


def find_template(workspace: Workspace, reference: str, known: Mapping[str, Source]) -> Source:
    """Find the template that a person named.

    Args:
        workspace: The workspace.
        reference: A name from `known`, the path of a folder, or a git URL (`git+https://host/repo.git#folder`).
        known: What `all_templates` gave.

    Raises:
        UsageError: there is no such template.
        EnvironmentMissing: the repository cannot be fetched.
    """
    if reference in known:
        return known[reference]
    if is_git(reference):
        folder = fetch(reference, fresh=True)
    elif os.sep in reference or reference in (".", ".."):
        folder = Path(reference).expanduser()
    else:
        guess = did_you_mean(reference, known)
        raise UsageError(f"no template {reference!r}{guess}", f"There are: {', '.join(known)}.")
    if (folder / TEMPLATE_SPECS).is_file():
        return Source(folder, reference)
    inside = [template.name for template in _templates_in(folder)]
    hint = f"It holds the templates {', '.join(inside)}; name one of these folders." if inside else ""
    raise UsageError(f"{reference}: this folder is no template, {TEMPLATE_SPECS} is missing", hint)


def is_git(reference: str) -> bool:
    """Say whether a reference is meant as a git URL."""
    return "::" in reference or reference.startswith("git+") or _PLAIN_GIT.fullmatch(reference) is not None


def fetch(reference: str, *, fresh: bool) -> Path:
    """Give the folder of a git source, cloned into the user's cache.

    Args:
        reference: `git+https://host/repo.git`, with `#folder` for a folder inside.
        fresh: Clone again even if it is there.

    Raises:
        UsageError: it is not a URL that dsflow opens, or the folder is not inside.
        EnvironmentMissing: git is missing, or cannot clone it.
    """
    match = _GIT.fullmatch(reference)
    if match is None:
        raise UsageError(
            f"{reference!r} is not a git URL for templates", "Write it like git+https://host/repository.git#folder"
        )
    clone = cache.folder() / "templates" / hashlib.sha256(match["url"].encode()).hexdigest()[:16]
    if fresh or not clone.is_dir():
        _clone(match["url"], clone)
    folder = (clone / (match["inside"] or "")).resolve()
    if not folder.is_relative_to(clone.resolve()) or not folder.is_dir():
        raise UsageError(f"{reference}: the repository has no folder {match['inside']!r}")
    return folder


def _clone(url: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="clone-") as aside:
        command = ["git", "clone", "--quiet", "--depth", "1", "--no-tags", "--", url, f"{aside}/new"]
        environment = os.environ | {"GIT_ALLOW_PROTOCOL": _PROTOCOLS, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except FileNotFoundError:
            raise EnvironmentMissing("git is not installed, so templates cannot be fetched with it") from None
        except subprocess.TimeoutExpired:
            raise EnvironmentMissing(f"{url}: no answer within {_TIMEOUT} seconds") from None
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["git failed"])[-1]
            raise EnvironmentMissing(f"{url}: cannot be cloned: {reason}", "Check the address and your access to it.")
        if target.exists():
            target.rename(f"{aside}/old")
        Path(aside, "new").rename(target)


def _configured(workspace: Workspace, reference: str, fresh: bool) -> Path:
    if is_git(reference):
        return fetch(reference, fresh=fresh)
    folder = workspace.root / Path(reference).expanduser()
    if not folder.is_dir():
        raise UsageError(f"dsflow.yml: templates: there is no folder {reference}")
    return folder


def _templates_in(folder: Path) -> list[Path]:
    """Give the template folders of a collection; a template alone is a collection of one."""
    if (folder / TEMPLATE_SPECS).is_file():
        return [folder]
    inner = folder / "jobs" if (folder / "jobs").is_dir() else folder
    return sorted(path.parent for path in inner.glob(f"*/{TEMPLATE_SPECS}"))
