"""The images that jobs run in: one per folder `docker/NAME` with a Dockerfile, tagged `dsflow/NAME`."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dsflow import cache
from dsflow.containers import engine as containers
from dsflow.containers.engine import LABEL, Image
from dsflow.containers.settings import BuildSettings, gather
from dsflow.errors import EnvironmentMissing, UsageError, did_you_mean
from dsflow.workspace import Workspace, package_folder

Notify = Callable[[str], None]

PREFIX = "dsflow/"
DEFAULT = PREFIX + "python"
# With Java, and without: for the server and for whoever joins it.
SPARK, SPARK_CLIENT = PREFIX + "spark", PREFIX + "spark-client"
# Large, and not for every workspace: built when a job needs them, or by name.
ON_DEMAND = ("spark", "spark-client")
PACKAGE = Path(__file__).resolve().parent.parent
# Where images carry the package. Another version of it, or a foreign image, gets this machine's laid over.
PACKAGE_INSIDE = "/opt/dsflow/dsflow"
_SERVICE = "service.yaml"
_WIDEST = 110
_TLS_REFUSED = re.compile(
    r"UnknownIssuer|certificate.verify.failed|self.signed certificate|unable to get local issuer|certificate signed by"
    r" unknown|Certificate verification failed",
    re.IGNORECASE,
)
_NOT_FETCHED = re.compile(
    r"pull access denied|manifest.* (unknown|not found)|repository does not exist|lookup \S+|no such host|dial tcp"
    r"|failed to resolve|i/o timeout|Client.Timeout|error response from registry",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Surroundings:
    """Where recipes are found, and what the workspace's settings say about building.

    Attributes:
        folders: The folders that hold one folder per image; what comes first wins.
        base: The image that `dsflow/base` starts from.
        ca_bundle: A file of certificates that the network needs.
    """

    folders: Sequence[Path]
    base: str | None = None
    ca_bundle: Path | None = None

    @classmethod
    def of(cls, workspace: Workspace | None, base: str | None = None, ca_bundle: Path | None = None) -> Surroundings:
        """Give those of a workspace, or of none; what is given here goes before its settings.

        Raises:
            UsageError: a setting has a mistake.
        """
        if workspace is None:
            return cls([package_folder("docker")], base, ca_bundle)
        from dsflow.specs.load import load_workspace

        settings = load_workspace(workspace, {"base_image": base, "ca_bundle": ca_bundle and str(ca_bundle.absolute())})
        bundle = workspace.root / settings.ca_bundle if settings.ca_bundle else None
        return cls(workspace.docker_folders(), settings.base_image, bundle)

    @functools.cached_property
    def recipes(self) -> dict[str, Recipe]:
        """The recipes of jobs' images, by name."""
        return {name: recipe for name, recipe in self.all_recipes.items() if not recipe.is_service}

    @functools.cached_property
    def all_recipes(self) -> dict[str, Recipe]:
        """The recipes of jobs' images and of services', by name."""
        return recipes(self.folders)

    @functools.cached_property
    def settings(self) -> BuildSettings:
        """What a build gets."""
        return gather(os.environ, self.base, self.ca_bundle)


@dataclass(frozen=True)
class Recipe:
    """A folder with a Dockerfile."""

    name: str
    folder: Path

    @property
    def tag(self) -> str:
        """The name of the image."""
        return PREFIX + self.name

    @property
    def is_service(self) -> bool:
        """Whether a service runs in the image, not jobs."""
        return (self.folder / _SERVICE).exists()

    @property
    def dockerfile(self) -> str:
        """The text of its Dockerfile."""
        return (self.folder / "Dockerfile").read_text("utf-8")

    @property
    def parents(self) -> list[str]:
        """The names of the recipes that it starts from."""
        return re.findall(rf"^FROM +{PREFIX}([\w.-]+)", self.dockerfile, re.MULTILINE)

    @property
    def files(self) -> dict[str, bytes]:
        """Everything in the folder that can go into the image, by name."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name != _SERVICE)
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    @property
    def hash(self) -> str:
        """What identifies the files; recorded in the image."""
        return _hash(self.files)


def recipes(folders: Sequence[Path]) -> dict[str, Recipe]:
    """Give the recipes by name; a name in an earlier folder hides the same name in a later one."""
    found = {}
    for folder in reversed(folders):
        for dockerfile in sorted(folder.glob("*/Dockerfile")):
            found[dockerfile.parent.name] = Recipe(dockerfile.parent.name, dockerfile.parent)
    return found


def build(
    surroundings: Surroundings, notify: Notify, names: Iterable[str] = (), *, rebuild: bool = False
) -> dict[str, Image]:
    """Build images, and first what they start from; what is up to date stays as it is.

    Args:
        surroundings: What there is to build, and with what.
        notify: Gets the lines of the builds as they come.
        names: Which ones; without it all that jobs run in but those for Spark.
        rebuild: Build even what is up to date, without the engine's cache.

    Returns:
        The images by name, those they start from included.

    Raises:
        UsageError: there is no such image, or the CA bundle cannot be read.
        EnvironmentMissing: no engine, or a build failed.
    """
    known = surroundings.all_recipes
    usual = (name for name in surroundings.recipes if name not in ON_DEMAND)
    wanted = [name.removeprefix(PREFIX) for name in names] or list(usual)
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"there is no image {name!r} to build{did_you_mean(name, known)}", f"Known are: {', '.join(known)}."
            )
    return {
        recipe.tag: _up_to_date(recipe, surroundings.settings, notify, rebuild=rebuild)
        for recipe in _in_order(wanted, known)
    }


def ensure(name: str, surroundings: Surroundings, notify: Notify) -> Image:
    """Give the image of this name, building it first where it is one of ours and missing.

    Raises:
        EnvironmentMissing: it is not there and not ours (nothing is ever pulled for a job), or its build failed.
    """
    known = surroundings.recipes
    recipe = known.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    image = containers.find_image(name)
    if recipe is not None and image is None:
        notify(f"The image {name} is not on this machine yet: building it (once; `dsflow build-images` does the same)")
        for step in _in_order([recipe.name], known):
            # What is there already stays, even where it is out of date: somebody waits for a job.
            image = containers.find_image(step.tag) or _up_to_date(step, surroundings.settings, notify)
    elif recipe is not None and image is not None and image.labels.get(LABEL + "recipe") != recipe.hash:
        notify(f"The image {name} was built from another version of its files; `dsflow build-images` renews it")
    if image is None:
        raise EnvironmentMissing(
            f"the image {name} is not on this machine",
            f"`docker pull {name}`, build it, use {DEFAULT}, or run without a container: --runtime process.",
        )
    return image


def ensure_service(
    name: str, surroundings: Surroundings, notify: Notify, *, mark: str = "", rebuild: bool = False
) -> Image:
    """Give the image of a service as its files are now, building it where it is missing or older than they are.

    Args:
        name: The folder of the service.
        surroundings: What there is to build, and with what.
        notify: Gets the lines of the build.
        mark: Added to the image's name, so that two workspaces can have different services of one name.
        rebuild: Build even what is up to date, without the engine's cache.

    Raises:
        EnvironmentMissing: its build failed.
    """
    *parents, recipe = _in_order([name], surroundings.all_recipes)
    for parent in parents:
        if containers.find_image(parent.tag) is None:
            _up_to_date(parent, surroundings.settings, notify)
    marked = replace(recipe, name=f"{name}-{mark}") if mark else recipe
    return _up_to_date(marked, surroundings.settings, notify, rebuild=rebuild)


def with_requirements(
    name: str, image: Image, requirements: Sequence[str], surroundings: Surroundings, notify: Notify
) -> tuple[str, Image]:
    """Give an image that has the requirements too, and its name; build it where it is missing.

    Args:
        name: The image it starts from.
        image: What the engine has under that name.
        requirements: In pip's words.
        surroundings: Where `python/requirements.Dockerfile` is, and what a build gets.
        notify: Gets the lines of the build.

    Raises:
        EnvironmentMissing: they cannot be installed.
    """
    tag, files = _layer(image, requirements, surroundings)
    made = containers.find_image(tag)
    if made is None:
        with cache.one_at_a_time(f"image-{tag.removeprefix(PREFIX).replace(':', '-')}", notify):
            # Another dsflow may have made it while this one waited.
            made = containers.find_image(tag)
            if made is None:
                notify(f"Adding {', '.join(sorted(set(requirements)))} to {name} (once)")
                build = _Build("job", tag, files, replace(surroundings.settings, base=name))
                made = build.run({"config-hash": tag.partition(":")[2]}, notify)
    return tag, made


def known_with(image: Image, requirements: Sequence[str], surroundings: Surroundings) -> Image | None:
    """Give the image that `with_requirements` would, or None where it is not made yet."""
    return containers.find_image(_layer(image, requirements, surroundings)[0])


def _layer(image: Image, requirements: Sequence[str], surroundings: Surroundings) -> tuple[str, dict[str, bytes]]:
    """Give the tag of an image with requirements, and the files of its build."""
    folders = [*surroundings.folders, package_folder("docker")]
    recipe = next(path for folder in folders if (path := folder / "python" / "requirements.Dockerfile").is_file())
    files = {
        "Dockerfile": recipe.read_bytes(),
        "installer.lock": recipe.with_name("installer.lock").read_bytes(),
        "requirements.txt": "".join(f"{line}\n" for line in sorted(set(requirements))).encode(),
    }
    return f"{PREFIX}job:{_hash({**files, 'image': image.id.encode()})[:16]}", files


@functools.cache
def package_hash() -> str:
    """Give what identifies the source of the package on this machine."""
    return _hash({name: data for name, data in _package().items() if name.endswith(".py")})


def _in_order(names: Iterable[str], known: Mapping[str, Recipe]) -> list[Recipe]:
    """The recipes and all they start from, each after what it starts from."""
    ordered: dict[str, Recipe] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise UsageError(
                f"{known[name].folder / 'Dockerfile'} starts from itself ({' <- '.join((*above, name))})",
                f"Call the folder something else and name `{PREFIX}NAME` as `run.image`.",
            )
        if name in known and name not in ordered:
            for parent in known[name].parents:
                visit(parent, (*above, name))
            ordered[name] = known[name]

    for name in names:
        visit(name, ())
    return list(ordered.values())


def _up_to_date(recipe: Recipe, settings: BuildSettings, notify: Notify, *, rebuild: bool = False) -> Image:
    with cache.one_at_a_time(f"image-{recipe.name}", notify):
        files = recipe.files | {f"ca/{i}.crt": pem.encode() for i, pem in enumerate(settings.certificates)}
        labels = {"recipe": recipe.hash}
        if PACKAGE_INSIDE in recipe.dockerfile:
            labels["package"] = package_hash()
            files |= {f"dsflow/{name}": data for name, data in _package().items()}
        parents = [containers.find_image(PREFIX + parent) for parent in recipe.parents]
        # Of the base only what starts from it; the others have it from their parents.
        base = settings.base if "BASE_IMAGE" in recipe.dockerfile else None
        origin = [base, *(parent.id for parent in parents if parent)]
        labels["config-hash"] = _hash({**files, "origin": json.dumps(origin).encode()})
        image = containers.find_image(recipe.tag)
        if image and not rebuild and image.labels.get(LABEL + "config-hash") == labels["config-hash"]:
            notify(f"{recipe.name}  {recipe.tag} is up to date")
            return image
        return _Build(recipe.name, recipe.tag, files, settings).run(labels, notify, cached=not rebuild, replaces=image)


@dataclass(frozen=True)
class _Build:
    """One build: what goes in, and how its lines and its failure are told."""

    name: str
    tag: str
    files: Mapping[str, bytes]
    settings: BuildSettings

    def run(
        self, labels: Mapping[str, str], notify: Notify, *, cached: bool = True, replaces: Image | None = None
    ) -> Image:
        dockerfile = self.files["Dockerfile"].decode()
        known = set(re.findall(r"^ARG +(\w+)", dockerfile, re.MULTILINE))
        given = self.settings.indexes | ({"BASE_IMAGE": self.settings.base} if self.settings.base else {})
        arguments = {name: value for name, value in given.items() if name in known} | self.settings.proxies
        last: deque[str] = deque(maxlen=30)
        try:
            for line in containers.build(_tar(self.files), self.tag, arguments, labels, cache=cached):
                last.append(self.settings.mask(line))
                if shown := _shown(last[-1]):
                    notify(f"{self.name}  {shown}")
        except containers.BuildFailed as error:
            raise self._explained(self.settings.mask(str(error)), list(last)) from None
        image = containers.find_image(self.tag)
        assert image is not None
        if replaces is not None and replaces.id != image.id:
            containers.remove_image(replaces.id)
        notify(f"{self.name}  built {self.tag}")
        return image

    def _explained(self, error: str, last: Sequence[str]) -> EnvironmentMissing:
        steps = [line for line in last if line.startswith("Step ")]
        said = "\n".join(line for line in last if not line.startswith((" --->", "Step ", "Removing")))
        if _TLS_REFUSED.search(f"{said}\n{error}"):
            return EnvironmentMissing(
                f"building {self.tag} failed: this network re-signs TLS with a certificate the image does not know",
                "Give the file of your company's certificates: `dsflow build-images --ca-bundle FILE`.",
            )
        if steps and " : FROM " in steps[-1] and _NOT_FETCHED.search(error):
            return EnvironmentMissing(
                f"building {self.tag} failed: its base image is not on this machine and cannot be fetched"
                f" ({_shorten(error)})",
                "Name one you have, or your company's copy of it: `dsflow build-images --base IMAGE`.",
            )
        step = f" at {_shown(steps[-1])}" if steps else ""
        reason = said.strip().splitlines()[-3:] or [error]
        return EnvironmentMissing(
            f"building {self.tag} failed{step}: {' / '.join(map(_shorten, reason))}",
            "Correct that and run `dsflow build-images` to see the whole build.",
        )


def _package() -> dict[str, bytes]:
    found = sorted(path for path in PACKAGE.rglob("*") if path.is_file())
    # A wheel carries `docker/` and `templates/` inside; those are for the host side only.
    parts = {path: path.relative_to(PACKAGE).parts for path in found}
    wanted = [p for p, names in parts.items() if names[0] not in ("docker", "templates") and "__pycache__" not in names]
    return {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in wanted}


def _hash(files: Mapping[str, bytes]) -> str:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Pack files so that the same files give the same bytes: the engine's cache goes by them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _shown(line: str) -> str:
    """What a person wants to see of a build's line; empty for bookkeeping and lists of packages."""
    if re.match(r"Step \d+/\d+ : (ARG|ENV|LABEL|USER) ", line):
        return ""
    if step := re.match(r"Step (\d+/\d+) : (.*)", line):
        return _shorten(f"step {step[1]}: {' '.join(step[2].split())}")
    noise = line.startswith((" --->", " + ", "Removing intermediate", "Successfully ", "[Warning]"))
    return "" if noise else _shorten(line.strip())


def _shorten(line: str) -> str:
    return line if len(line) <= _WIDEST else line[: _WIDEST - 3] + "..."
