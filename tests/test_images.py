"""Images: what is built, when, on what, and what stays out of them."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import subprocess
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsflow.containers import engine as containers
from dsflow.containers import images
from dsflow.containers.engine import Image
from dsflow.containers.images import Surroundings
from dsflow.errors import EnvironmentMissing, UsageError
from dsflow.workspace import package_folder
from tests.conftest import MakeWorkspace, Screen, build_tree

# ---- recipes


def test_a_workspaces_recipe_hides_the_packages_and_services_are_no_images_of_jobs(
    make_workspace: MakeWorkspace,
) -> None:
    ws = make_workspace(
        {
            "docker/python/Dockerfile": "FROM mine\n",
            "docker/extra/Dockerfile": "FROM dsflow/python\n",
            "docker/db/Dockerfile": "FROM postgres\n",
            "docker/db/service.yaml": "",
        }
    )
    found = Surroundings.of(ws).recipes
    assert set(found) == {"base", "python", "extra", "spark", "spark-client"}
    assert found["python"].dockerfile == "FROM mine\n"
    assert found["base"].folder == package_folder("docker") / "base"
    assert found["extra"].parents == ["python"]


def test_settings_of_the_workspace_give_base_and_certificates(make_workspace: MakeWorkspace) -> None:
    ws = make_workspace({"dsflow.yml": "version: 1\nbase_image: acme/debian:13\nca_bundle: company.pem\n"})
    assert Surroundings.of(ws).base == "acme/debian:13"
    assert Surroundings.of(ws).ca_bundle == ws.root / "company.pem"
    assert Surroundings.of(ws, "other", Path("here.pem")).base == "other"
    assert Surroundings.of(ws, "other", Path("here.pem")).ca_bundle == Path("here.pem").absolute()


def test_the_locks_name_no_index_and_hold_every_requirement_with_hashes() -> None:
    folder = package_folder("docker") / "python"
    lock = (folder / "requirements.lock").read_text()
    assert "://" not in lock + (folder / "installer.lock").read_text()
    wanted = [line for line in (folder / "requirements.in").read_text().splitlines() if not line.startswith("#")]
    assert [name for name in wanted if f"\n{name}==" not in f"\n{lock}"] == []
    assert lock.count("==") <= lock.count("--hash=sha256:")


def test_dockerfiles_can_be_built_by_any_builder() -> None:
    for path in package_folder("docker").glob("*/*Dockerfile"):
        text = path.read_text()
        assert "--mount" not in text, path
        assert "<<" not in text, path
        assert "syntax=" not in text, path


def test_an_unknown_image_is_refused_with_a_guess(make_workspace: MakeWorkspace) -> None:
    surroundings = Surroundings.of(make_workspace({}))
    with pytest.raises(UsageError, match="there is no image 'pyhton' to build; did you mean 'python'"):
        images.build(surroundings, print, ["pyhton"])


def test_an_image_that_starts_from_itself_is_refused(make_workspace: MakeWorkspace) -> None:
    surroundings = Surroundings.of(make_workspace({"docker/python/Dockerfile": "FROM dsflow/python\n"}))
    with pytest.raises(UsageError, match=r"docker/python/Dockerfile starts from itself \(python <- python\)") as caught:
        images.build(surroundings, print, ["python"])
    assert "run.image" in caught.value.hint


# ---- builds


class Kitchen:
    """A folder of tiny recipes on the base image, and what their builds said."""

    def __init__(self, folder: Path, base: str) -> None:
        self.folder = folder
        self.base = base
        self.lines: list[str] = []
        self.suffix = uuid.uuid4().hex[:8]

    def write(self, name: str, dockerfile: str, **files: str) -> str:
        """Write a recipe; `BASE` is the base image, `OTHER` stands for the recipe of that name."""
        text = dockerfile.replace("BASE", self.base).replace("FROM OTHER", f"FROM dsflow/{self.name('OTHER')}")
        build_tree(self.folder / self.name(name), {"Dockerfile": text, **files})
        return self.name(name)

    def name(self, name: str) -> str:
        return f"test-{name.lower()}-{self.suffix}"

    def build(self, name: str, *, rebuild: bool = False) -> Image:
        self.lines.clear()
        built = images.build(Surroundings([self.folder]), self.lines.append, [self.name(name)], rebuild=rebuild)
        return built[f"dsflow/{self.name(name)}"]


@pytest.fixture
def kitchen(surroundings: Surroundings, tmp_path: Path) -> Iterator[Kitchen]:
    made = Kitchen(tmp_path / "docker", surroundings.base or "debian:trixie-slim")
    yield made
    names = [f"dsflow/{recipe.name}" for recipe in images.recipes([made.folder]).values()]
    subprocess.run(["docker", "rmi", "-f", *names], check=False, capture_output=True)


@pytest.mark.docker
def test_a_build_tells_its_steps_as_they_come_and_builds_what_it_stands_on_first(kitchen: Kitchen) -> None:
    other = kitchen.write("OTHER", "FROM BASE\nRUN echo first\nRUN echo second >&2\n")
    name = kitchen.write("top", "FROM OTHER\nCOPY a.txt /a.txt\n", **{"a.txt": "A\n"})
    image = kitchen.build("top")
    assert kitchen.lines[:5] == [
        f"{other}  step 1/5: FROM {kitchen.base}",
        f"{other}  step 2/5: RUN echo first",
        f"{other}  first",
        f"{other}  step 3/5: RUN echo second >&2",
        f"{other}  second",
    ]
    assert f"{name}  built dsflow/{name}" in kitchen.lines
    assert image.labels["io.dsflow.recipe"] == images.recipes([kitchen.folder])[name].hash


@pytest.mark.docker
def test_only_what_changed_is_built_again_and_what_it_replaces_goes(kitchen: Kitchen) -> None:
    name = kitchen.write("one", "FROM BASE\nCOPY a.txt /a.txt\n", **{"a.txt": "A\n"})
    first = kitchen.build("one")
    assert kitchen.build("one") == first
    assert kitchen.lines == [f"{name}  dsflow/{name} is up to date"]
    assert kitchen.build("one", rebuild=True).id != first.id
    assert containers.find_image(first.id) is None
    kitchen.write("one", "FROM BASE\nCOPY a.txt /a.txt\n", **{"a.txt": "B\n"})
    kitchen.build("one")
    assert f"{name}  built dsflow/{name}" in kitchen.lines


@pytest.mark.docker
def test_a_failing_step_is_named_with_its_last_words(kitchen: Kitchen) -> None:
    kitchen.write("bad", "FROM BASE\nRUN echo working && echo the disk of the moon is full >&2 && false\n")
    with pytest.raises(EnvironmentMissing) as caught:
        kitchen.build("bad")
    assert "failed at step 2/" in caught.value.message
    assert "the disk of the moon is full" in caught.value.message


@pytest.mark.docker
@pytest.mark.parametrize(
    "words",
    [
        "SSLCertVerificationError: certificate verify failed: unable to get local issuer",
        "invalid peer certificate: UnknownIssuer",
    ],
)
def test_a_network_that_re_signs_tls_is_recognised(kitchen: Kitchen, words: str) -> None:
    kitchen.write("tls", f"FROM BASE\nRUN echo '{words}' && false\n")
    with pytest.raises(EnvironmentMissing, match="re-signs TLS") as caught:
        kitchen.build("tls")
    assert "--ca-bundle FILE" in caught.value.hint


@pytest.mark.docker
def test_a_base_image_that_cannot_be_fetched_is_recognised(kitchen: Kitchen) -> None:
    kitchen.write("far", "FROM registry.invalid/no/such:image\n")
    with pytest.raises(
        EnvironmentMissing, match="its base image is not on this machine and cannot be fetched"
    ) as caught:
        kitchen.build("far")
    assert "--base IMAGE" in caught.value.hint


@pytest.mark.docker
def test_a_missing_image_of_ours_is_built_on_first_use_after_saying_so(kitchen: Kitchen) -> None:
    name = kitchen.write("first", "FROM BASE\n")
    image = images.ensure(f"dsflow/{name}", Surroundings([kitchen.folder]), kitchen.lines.append)
    assert kitchen.lines[0].startswith(f"The image dsflow/{name} is not on this machine yet: building it")
    assert containers.find_image(f"dsflow/{name}") == image
    kitchen.lines.clear()
    assert images.ensure(f"dsflow/{name}", Surroundings([kitchen.folder]), kitchen.lines.append) == image
    assert kitchen.lines == []
    kitchen.write("first", "FROM BASE\nENV X=1\n")
    assert images.ensure(f"dsflow/{name}", Surroundings([kitchen.folder]), kitchen.lines.append) == image
    assert "`dsflow build-images` renews it" in kitchen.lines[0]


@pytest.mark.docker
def test_a_foreign_image_is_never_pulled(engine: None) -> None:
    with pytest.raises(EnvironmentMissing, match=r"acme\.invalid/x:1 is not on this machine") as caught:
        images.ensure("acme.invalid/x:1", Surroundings.of(None), print)
    assert "docker pull acme.invalid/x:1" in caught.value.hint


@pytest.mark.docker
def test_the_command_lists_what_it_built(
    make_workspace: MakeWorkspace, dsflow: Callable[..., Screen], kitchen: Kitchen
) -> None:
    ws = make_workspace({})
    name = kitchen.write("cmd", "FROM OTHER\n")
    kitchen.write("OTHER", f"FROM {kitchen.base}\n")
    (ws.root / "docker").symlink_to(kitchen.folder)
    screen = dsflow("build-images", name, "--json")
    assert screen.exit_code == 0, screen
    image = containers.find_image(f"dsflow/{name}")
    assert image is not None
    assert screen.document[f"dsflow/{name}"] == image.id


# ---- requirements, and secrets


@pytest.fixture
def private_index() -> Iterator[str]:
    """The URL of a package index that asks for a password and has one package, `dsflow-test-moon` 1.0."""
    password = "hunter2-" + uuid.uuid4().hex
    login = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
    wheel_name, wheel = moon_wheel()
    page = f'<a href="/{wheel_name}#sha256={hashlib.sha256(wheel).hexdigest()}">{wheel_name}</a>'.encode()

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"/simple/dsflow-test-moon/": page, f"/{wheel_name}": wheel}.get(self.path)
            status = 401 if self.headers["Authorization"] != login else 404 if body is None else 200
            self.send_response(status)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Type", "text/html" if body == page else "application/octet-stream")
            self.end_headers()
            if status == 200 and body is not None and self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    inspected = ["docker", "network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"]
    # Not every engine names the gateway of its bridge.
    gateway = subprocess.run(inspected, check=True, capture_output=True, text=True).stdout.strip() or "172.17.0.1"
    server = http.server.ThreadingHTTPServer((gateway, 0), Index)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://me:{password}@{gateway}:{server.server_port}/simple/"
    server.shutdown()
    thread.join()
    server.server_close()


def moon_wheel() -> tuple[str, bytes]:
    files = {
        "dsflow_test_moon.py": "phase = 'full'\n",
        "dsflow_test_moon-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: dsflow-test-moon\nVersion: 1.0\n",
        "dsflow_test_moon-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, "dsflow_test_moon-1.0.dist-info/RECORD"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in {**files, "dsflow_test_moon-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return "dsflow_test_moon-1.0-py3-none-any.whl", packed.getvalue()


@pytest.mark.docker
def test_requirements_come_from_the_callers_index_and_its_password_stays_nowhere(
    python_image: Image, private_index: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = private_index.partition("@")[2].partition(":")[0]
    password = private_index.removeprefix("http://me:").partition("@")[0]
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", private_index)
    monkeypatch.setenv("PIP_TRUSTED_HOST", host)
    lines: list[str] = []
    # numpy is there already: it stays at its version and is not installed again.
    wanted = ["dsflow-test-moon>=1", "numpy"]
    name, image = images.with_requirements(images.DEFAULT, python_image, wanted, Surroundings.of(None), lines.append)
    try:
        code = "import dsflow_test_moon as m, numpy; print(m.phase, numpy.__file__)"
        run = ["docker", "run", "--rm", "--network", "none", name, "python3", "-c", code]
        shown = subprocess.run(run, check=True, capture_output=True, text=True).stdout
        assert shown.startswith("full /opt/venv/")
        assert password not in "\n".join(lines)
        told = subprocess.run(["docker", "history", "--no-trunc", name], check=True, capture_output=True).stdout
        told += subprocess.run(["docker", "image", "inspect", name], check=True, capture_output=True).stdout
        assert password.encode() not in told
        assert password not in (words := left_behind(name, tmp_path)), words
        lines.clear()
        again = images.with_requirements(
            images.DEFAULT, python_image, wanted[::-1], Surroundings.of(None), lines.append
        )
        assert (again, lines) == ((name, image), [])
        assert images.known_with(python_image, wanted, Surroundings.of(None)) == image
        everything = subprocess.run(
            ["docker", "images", "-aq", "--no-trunc"], check=True, capture_output=True, text=True
        )
        for layer in everything.stdout.split():
            kept = subprocess.run(["docker", "history", "--no-trunc", layer], check=False, capture_output=True).stdout
            assert password.encode() not in kept
    finally:
        subprocess.run(["docker", "rmi", name], check=False, capture_output=True)


def left_behind(name: str, folder: Path) -> str:
    """Everything the image adds to the one below it, as text."""
    with (folder / "image.tar").open("wb") as file:
        subprocess.run(["docker", "save", name], check=True, stdout=file)
    with tarfile.open(folder / "image.tar") as saved:
        layers = sorted((m for m in saved.getmembers() if m.name.endswith("layer.tar")), key=lambda m: m.size)
        small = [saved.extractfile(m) for m in layers if m.size < 5_000_000]
        return "".join(file.read().decode("latin-1") for file in small if file is not None)


@pytest.mark.docker
def test_requirements_that_do_not_exist_are_told_with_the_installers_words(python_image: Image) -> None:
    with pytest.raises(EnvironmentMissing, match="dsflow-test-there-is-no-such-package"):
        images.with_requirements(
            images.DEFAULT, python_image, ["dsflow-test-there-is-no-such-package"], Surroundings.of(None), print
        )
