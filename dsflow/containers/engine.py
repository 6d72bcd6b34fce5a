"""Images and containers of the Docker engine, and what to say when it refuses. The only module that imports its SDK."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsflow.containers import host, refusals
from dsflow.errors import EnvironmentMissing

LABEL = "io.dsflow."
_LEFTOVER_AFTER = dt.timedelta(minutes=1)
_HOST_NAME = "dsflow"
_LONGEST_LINE = 1 << 20
# A busy disk can make an engine slow to answer.
_PATIENCE_SECONDS = 180
# More than any honest job starts, few enough to stop a fork bomb.
_MOST_PROCESSES = 2048


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that the engine has."""

    id: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What matters here of the engine: whether its root is the caller, and how many cores it can give."""

    rootless: bool
    cpus: int


@dataclass(frozen=True, kw_only=True)
class Bind:
    """A folder or file of this machine and where a container finds it."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A container to start.

    Attributes:
        network: Whether it has one, or the name of one that containers share, or `container:ID` for that of another.
        port: A port that is published on 127.0.0.1 only.
        published: More ports, each with the address and the port of this machine that lead to it.
        working_dir: Where it starts; None is what the image says.
        stop_signal: What `stop` sends first; None is what the image says.
        attended: Whether the process that starts it reads what it prints, and ends it by closing its standard input.
    """

    name: str
    image: str
    command: tuple[str, ...]
    user: str
    environment: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    memory: int | None = None
    cpus: float | None = None
    network: bool | str = False
    port: int | None = None
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    working_dir: str | None = "/tmp"
    stop_signal: str | None = None
    attended: bool = True


class BuildFailed(Exception):
    """A step of a build failed; the message is the engine's."""


def available() -> str | None:
    """Give None when an engine answers, else one sentence that says why not."""
    problem = host.problem()
    return problem.message if problem else None


def explain(error: BaseException) -> EnvironmentMissing:
    """Turn what the SDK raised into one sentence and what to do next."""
    text = str(getattr(error, "explanation", None) or error).strip()
    if known := refusals.recognise(text):
        return known
    reason = text.splitlines()[0] if text else type(error).__name__
    return host.problem() or EnvironmentMissing(
        f"the Docker engine refused: {reason}", f"Look at `docker info`, {host.INSTEAD}"
    )


@functools.cache
def engine() -> Engine:
    """Ask the engine what it is.

    Raises:
        EnvironmentMissing: no engine answers.
    """
    with explained():
        return describe(client().info())


def describe(info: Mapping[str, Any]) -> Engine:
    """Read an engine's answer to `docker info`."""
    options = info.get("SecurityOptions") or []
    return Engine(rootless=any("name=rootless" in option for option in options), cpus=int(info.get("NCPU") or 1))


def caller(engine: Engine, uid: int, gid: int) -> str:
    """Give the user a container must run as so that what it writes belongs to the caller.

    The root of a rootless engine is the caller; any other number would be a user the caller cannot act for.
    """
    return "0:0" if engine.rootless else f"{uid}:{gid}"


def find_image(name: str) -> Image | None:
    """Give an image the engine has, or None. Never pulls.

    Raises:
        EnvironmentMissing: no engine answers.
    """
    with explained():
        api = client()
        from docker.errors import ImageNotFound

        try:
            found = api.inspect_image(name)
        except ImageNotFound:
            return None
    config = found.get("Config") or {}
    environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
    return Image(id=found["Id"], labels=config.get("Labels") or {}, environment=environment)


def remove_image(image: str) -> None:
    """Remove an image that nothing needs any more: one with another name, or in use, stays."""
    from docker.errors import DockerException

    api = client()
    with contextlib.suppress(DockerException):
        if not api.inspect_image(image).get("RepoTags"):
            api.remove_image(image)


def build(
    context: bytes, tag: str, arguments: Mapping[str, str], labels: Mapping[str, str], *, cache: bool = True
) -> Iterator[str]:
    """Build an image from a tar archive, giving the engine's lines as they come.

    Only the last stage stays: the others hold what the build was told, such as a package index with its password.

    Raises:
        BuildFailed: a step failed.
        EnvironmentMissing: no engine answers.
    """
    layers = _Layers()
    with explained():
        events = client().build(
            fileobj=io.BytesIO(context), custom_context=True, decode=True, rm=True, forcerm=True, nocache=not cache,
            tag=tag, buildargs=dict(arguments), labels={LABEL + key: value for key, value in labels.items()},
        )  # fmt: skip
        try:
            for line in _build_lines(events):
                layers.read(line)
                yield line
        finally:
            layers.remove_unnamed()


def _build_lines(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a build's events; an event of a RUN step is any piece of text, coloured red if it went to stderr."""
    pending = ""
    for event in events:
        if "error" in event:
            raise BuildFailed(str(event["error"]).strip())
        if "status" in event and "id" not in event:
            yield str(event["status"])
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(event.get("stream", "")))
        *whole, pending = (pending + text).replace("\r", "\n").split("\n")
        yield from filter(None, map(str.rstrip, whole))
    if pending.strip():
        yield pending.rstrip()


class _Layers:
    """The layers a build makes, as its lines tell."""

    def __init__(self) -> None:
        self._made: list[str] = []
        self._foreign = False

    def read(self, line: str) -> None:
        """Learn from a line; the image of a FROM and the layers of an earlier build are not ours."""
        if line.startswith("Step "):
            self._foreign = " : FROM " in line
        elif line == " ---> Using cache":
            self._foreign = True
        elif (layer := re.fullmatch(r" ---> ([0-9a-f]{12,})", line)) and not self._foreign:
            self._made.append(layer[1])

    def remove_unnamed(self) -> None:
        """Remove the layers that have no name; the engine keeps those that a named image stands on."""
        for layer in reversed(self._made):
            remove_image(layer)


class Container:
    """A started container. Its output is attached before it starts, so no line is lost.

    Its standard input stays open for as long as this process lives: the shim takes its end as a request to stop.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._rests: dict[int, bytes] = {}
        self._socket: Any = None
        with explained():
            api = client()
            self._id = create(wanted)
            try:
                streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 1}
                self._socket = api.attach_socket(self._id, streams)
                api.start(self._id)
            except BaseException:
                self._remove()
                raise

    def lines(self) -> Iterator[str]:
        """Give whole lines as they are printed, until the container ends."""
        from docker.utils.socket import frames_iter

        with explained():
            for stream, chunk in frames_iter(self._socket, tty=False):  # type: ignore[no-untyped-call]
                *whole, rest = (self._rests.pop(stream, b"") + chunk).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    whole, rest = [*whole, rest], b""
                self._rests[stream] = rest
                yield from map(_text, whole)
        rests, self._rests = self._rests, {}
        yield from map(_text, filter(None, rests.values()))

    def stop(self, *, kill: bool = False) -> None:
        """Send SIGTERM, or SIGKILL; a container that has ended is left in peace."""
        with explained(), forgiving():
            client().kill(self._id, "SIGKILL" if kill else "SIGTERM")

    def ran_out_of_memory(self) -> bool:
        """Say whether the engine killed something in it for memory, ever; False where it is gone."""
        state: dict[str, bool] = {}
        with explained(), forgiving():
            state = client().inspect_container(self._id)["State"]
        return state.get("OOMKilled", False)

    def remove(self) -> None:
        """Remove it, whatever still runs in it."""
        self._remove()

    def wait(self) -> tuple[int, bool]:
        """Wait for the end and remove the container; give its exit code and whether memory ran out in it."""
        try:
            with explained():
                code = client().wait(self._id, timeout=None)["StatusCode"]
                return int(code), bool(client().inspect_container(self._id)["State"]["OOMKilled"])
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._socket is not None:
            self._socket.close()
        remove(self._id)


def remove_leftovers(labels: Mapping[str, str]) -> None:
    """Remove ended containers with these labels: a process that was killed could not remove its own.

    Raises:
        EnvironmentMissing: no engine answers.
    """
    wanted = [f"{LABEL}{key}={value}" for key, value in labels.items()]
    with explained():
        for found in client().containers(all=True, filters={"status": "exited", "label": wanted}):
            with contextlib.suppress(OSError):
                finished = client().inspect_container(found["Id"])["State"]["FinishedAt"]
                age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(finished[:19] + "+00:00")
                # One that ended just now may still be read by the process that started it.
                if age > _LEFTOVER_AFTER:
                    remove(found["Id"])


def create(wanted: Wanted) -> str:
    """Make a container without starting it, and give its id.

    Raises:
        EnvironmentMissing: the engine refuses.
    """
    with explained():
        api = client()
        return str(api.create_container_from_config(_config(api, wanted), wanted.name)["Id"])


def remove(container: str) -> None:
    """Remove a container, whatever still runs in it; one that is gone is fine."""
    from docker.errors import APIError

    with contextlib.suppress(APIError):
        client().remove_container(container, force=True, v=True)


def _config(api: Any, wanted: Wanted) -> Any:
    from docker.types import Mount

    mounts = [Mount(b.target, str(b.source), type="bind", read_only=b.read_only) for b in wanted.binds]
    # The root file system is read-only. A volume, unlike a tmpfs, is not counted as the job's memory.
    mounts.append(Mount("/tmp", None, type="volume"))
    shared = isinstance(wanted.network, str) and wanted.network.startswith("container:")
    published = {**({wanted.port: ("127.0.0.1", wanted.port)} if wanted.port else {}), **wanted.published}
    network = wanted.network if isinstance(wanted.network, str) else "bridge" if wanted.network or published else "none"
    limits = api.create_host_config(
        init=True, read_only=True, mounts=mounts, pids_limit=_MOST_PROCESSES, cap_drop=["ALL"],
        # A caller who is root may write what belongs to others, in a container as outside.
        cap_add=["DAC_OVERRIDE"] if wanted.user.startswith("0:") else None,
        security_opt=["no-new-privileges"], mem_limit=wanted.memory, memswap_limit=wanted.memory,
        nano_cpus=round(wanted.cpus * 1e9) if wanted.cpus else None,
        network_mode=network, port_bindings=published or None,
        # Without a network nobody resolves its own name, which Java asks for again and again, each time for seconds.
        extra_hosts={_HOST_NAME: "127.0.0.1"} if network == "none" else None,
        # What nobody reads as it comes is kept by the engine, and must not fill the disk.
        log_config=None if wanted.attended else {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
    )  # fmt: skip
    return api.create_container_config(
        wanted.image, list(wanted.command) or None, user=wanted.user, stdin_open=wanted.attended,
        # Who shares the network of another container has its name too.
        hostname=None if shared else _HOST_NAME,
        environment=dict(wanted.environment), labels={LABEL + key: value for key, value in wanted.labels.items()},
        working_dir=wanted.working_dir, ports=list(published) or None, stop_signal=wanted.stop_signal,
        host_config=limits,
    )  # fmt: skip


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")


@functools.cache
def client() -> Any:
    """Give the SDK's client, for the modules of this folder.

    Raises:
        EnvironmentMissing: no engine answers.
    """
    if problem := host.problem():
        raise problem
    import docker
    from docker.utils import kwargs_from_env

    settings: Any = {"base_url": host.url(), "timeout": _PATIENCE_SECONDS, **kwargs_from_env()}
    return docker.APIClient(**settings)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Let what the SDK raises (always a DockerException or an OSError) leave as one of our own errors."""
    try:
        yield
    except Exception as error:
        from docker.errors import DockerException

        if isinstance(error, DockerException | OSError):
            raise explain(error) from error
        raise


@contextlib.contextmanager
def forgiving(*also: int) -> Iterator[None]:
    """Let it pass that a container or network is gone, or has ended, by now; and answers of these numbers."""
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        if error.status_code not in (404, 409, *also):
            raise
