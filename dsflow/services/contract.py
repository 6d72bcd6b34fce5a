"""What a service is, what a form to run it in is, and what is known of one that runs."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from dsflow.specs.load import ServiceSpec
from dsflow.workspace import Workspace

Notify = Callable[[str], None]
FormName = Literal["container", "process", "server"]
LOOPBACK = "127.0.0.1"
# What a service that is a process has in its environment: the key of its workspace, `/`, and its name.
MARK = "DSFLOW_SERVICE"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service of a workspace.

    Attributes:
        workspace: Whose it is.
        folder: Where its `service.yaml` is: in the workspace, or in the package.
        spec: What that file says.
        name: What it is called while it runs: the spec's name, or one per job, such as `dash-flights`.
        names: More names for `{{ }}` than dsflow gives, such as `job`. No secrets: they are shown in labels.
    """

    workspace: Workspace
    folder: Path
    spec: ServiceSpec
    name: str
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The private folder that this service keeps between starts: `.dsflow/services/NAME`."""
        return self.workspace.own / "services" / self.name

    def keep(self, name: str, text: str) -> Path:
        """Put a file that only the caller may read into the private folder, and give its path.

        A link that somebody left in its place is replaced, never followed: the service itself can write there.
        """
        make_private(self.workspace, self.state)
        path = self.state / name
        temporary = self.state / f".{name}.{secrets.token_hex(4)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return path

    def kept(self, name: str) -> str | None:
        """Give the text of a file of the private folder, or None; a link is never followed."""
        with contextlib.suppress(OSError):
            handle = os.open(self.state / name, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(handle, encoding="utf-8") as file:
                return file.read()
        return None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What whoever starts a service asks for; None is "as it runs already, else as usual"."""

    form: FormName | None = None
    port: int | None = None
    address: str | None = None
    rebuild: bool = False
    wait: bool = True


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a service is going to listen, decided and free: what a preparation gets to know.

    Attributes:
        form: `container` or `process`.
        address: The address of this machine that leads to it.
        port: The port of this machine that leads to it; None for a service without ports.
    """

    form: FormName
    address: str
    port: int | None

    @property
    def url(self) -> str:
        """What to open in a browser on this machine; empty for a service without ports."""
        host = LOOPBACK if self.address in ("0.0.0.0", "::") else self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}" if self.port else ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a preparation gives: the module `dsflow.services.NAME` of a service that needs one.

    Attributes:
        names: More names for `{{ }}` in its `service.yaml`. No secrets: keep those in files of `Service.keep`.
        notes: Lines to show when it is ready, such as where to log in.
        seal: What a running one must have been started with, such as a hash of a file it reads at its start; with
            another seal it is started anew.
        spec: What its file says, where that depends on what the service is for, such as the image that a job names.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seal: str = ""
    spec: ServiceSpec | None = None


Preparation = Callable[[Service, Place, Notify], Prepared]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a service runs in: an image, or a Python environment; `identity` stands for its content."""

    identity: str
    image: str = ""
    python: str = ""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A service with everything resolved, ready to start."""

    service: Service
    place: Place
    made: Made
    command: tuple[str, ...]
    environment: Mapping[str, str]
    config_hash: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """A service that runs, or has run and left its traces.

    Attributes:
        name: What it is called.
        kind: The name in its `service.yaml`.
        names: The names that it was started with.
        form: `container` or `process`; `server` for `dsflow serve`, which has a command of its own.
        status: `running`; `ended` by itself, or killed; or `unreachable`, where no engine answers for its container.
        id: The id of its container, or of its process.
        config_hash: What it was started with.
        address: Where it listens.
        port: Where it listens; None without ports.
        started: When, in seconds since 1970.
        cause: Why it ended, as far as anybody knows.
    """

    name: str
    kind: str
    names: Mapping[str, str] = field(default_factory=dict)
    form: FormName
    status: Literal["running", "ended", "unreachable"]
    id: str
    config_hash: str
    address: str
    port: int | None
    started: float
    cause: str = ""

    @property
    def place(self) -> Place:
        """Where it listens."""
        return Place(form=self.form, address=self.address, port=self.port)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A command of this machine, with its whole environment; None is that of the caller."""

    command: tuple[str, ...]
    environment: Mapping[str, str] | None = None


class Form(Protocol):
    """A way to run services. Everything it needs to find them again is with the engine, or in the workspace."""

    name: FormName

    def offers(self, service: Service) -> str | None:
        """Give None when this service can run like this here, else one sentence that says why not."""

    def paths(self, service: Service) -> Mapping[str, str]:
        """Give what `workspace`, `here` and `state` are for the service, and where it must listen as `address`."""

    def make(self, service: Service, notify: Notify, *, rebuild: bool) -> Made:
        """Make what it runs in: build the image, install the requirements.

        Raises:
            EnvironmentMissing: it cannot be had.
        """

    def find(self, workspace: Workspace) -> list[Found]:
        """Give the services of a workspace that run in this form, and those that have ended and were not stopped."""

    def look(self, workspace: Workspace, found: Found) -> Found | None:
        """Give a service that was found as it is now, or None where it is gone."""

    def start(self, launch: Launch) -> Found:
        """Start it and leave it to itself. Nothing of that name may be there any more."""

    def stop(self, workspace: Workspace, found: Found, signal: str, patience: float) -> None:
        """Ask it to end with a signal, kill it after so many seconds, and leave nothing of it but its state."""

    def lines(self, workspace: Workspace, found: Found, *, follow: bool = False) -> Iterator[str]:
        """Give the lines of its log, and with `follow` those to come until it ends."""

    def shell(self, workspace: Workspace, found: Found, command: Sequence[str]) -> Shell:
        """Give how to run a command, or without one a shell, where the service runs."""

    def sweep(self, workspace: Workspace) -> None:
        """Remove what services leave with the engine that belongs to none of them alone, such as a network."""


def make_private(workspace: Workspace, folder: Path) -> None:
    """Make a folder below `.dsflow` that only the caller may enter; git leaves all of it alone."""
    if not workspace.own.exists():
        workspace.own.mkdir(mode=0o700, exist_ok=True)
    ignored = workspace.own / ".gitignore"
    if not ignored.exists():
        ignored.write_text("*\n", encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
