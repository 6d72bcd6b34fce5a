"""init.sh: a shell with dsflow in it, in bash and zsh, and one sentence where something is missing.

uv is replaced by a stand-in that links to the environment of the tests, so that nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import need

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
UV = f"""#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
case "$1" in
    venv)
        for folder; do :; done
        mkdir -p "$folder/bin"
        echo 'exec "{BIN}/python" "$@"' > "$folder/bin/python"
        ln -s "{BIN}/dsflow" "$folder/bin"
        chmod +x "$folder/bin/python"
        ;;
esac
"""
TOOLS = (
    "bash",
    "cat",
    "chmod",
    "cksum",
    "dirname",
    "env",
    "grep",
    "head",
    "mkdir",
    "ln",
    "rm",
    "sed",
    "sh",
    "tail",
    "tee",
)


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest) -> str:
    """Every test with it runs in both shells."""
    name: str = request.param
    need(shutil.which(name) is not None, f"{name} is not installed")
    return name


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, and beside it a folder `bin` with all the programs there are."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("init.sh", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(str(shutil.which(name)))
    program(programs / "uv", UV)
    (programs / "python3").symlink_to(BIN / "python")
    return folder


def program(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout; only the programs in `bin` can be found."""
    full = [str(shutil.which(command[0])), *command[1:]]
    programs = str(checkout.parent / "bin")
    environment = {"PATH": programs, "HOME": str(checkout.parent), "ZDOTDIR": str(checkout.parent), "TERM": "dumb"}
    return subprocess.run(full, cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=60)


def calls(checkout: Path) -> list[str]:
    """What uv was asked to do."""
    path = checkout.parent / "bin" / "calls"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_7_1_04_its_syntax_is_valid_in_bash_and_zsh(shell: str) -> None:
    assert subprocess.run([shell, "-n", str(ROOT / "init.sh")], check=False).returncode == 0


@pytest.mark.parametrize("script", ["init.sh", ".ci/run", ".ci/base-image.sh"])
def test_shellcheck_finds_nothing(script: str) -> None:
    need(shutil.which("shellcheck") is not None, "shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(ROOT / script)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_sourcing_puts_dsflow_on_path(checkout: Path, shell: str) -> None:
    done = run(checkout, shell, "-c", "source init.sh && command -v dsflow && dsflow --version")
    assert done.returncode == 0, done.stderr
    assert str(checkout / ".venv/bin/dsflow") in done.stdout
    assert "dsflow, version" in done.stdout or "dsflow 0" in done.stdout


def test_7_1_04_sourcing_twice_changes_nothing_more(checkout: Path, shell: str) -> None:
    done = run(
        checkout, shell, "-c", 'source init.sh; one=$PATH; cd /; source "$OLDPWD/init.sh" && echo $one && echo $PATH'
    )
    first, second = done.stdout.splitlines()[-2:]
    assert first == second
    assert calls(checkout) == ["venv", "pip"], "the second time nothing is installed"


def test_sourcing_leaves_only_path_and_completion_behind(checkout: Path, shell: str) -> None:
    names = "typeset -f | grep -oE '^[A-Za-z_]+ ?\\(\\)'; set -o; set | grep -oE '^[A-Za-z_]+='"
    done = run(checkout, shell, "-c", f"source init.sh > /dev/null; {names}")
    assert done.returncode == 0
    before = run(checkout, shell, "-c", f"x=1 && {names}")
    more = set(done.stdout.splitlines()) - set(before.stdout.splitlines())
    assert {line for line in more if "dsflow_completion" not in line} <= {
        "_=",
        "PIPESTATUS=",
        "OLDPWD=",
        "match=",
        "MATCH=",
    }


def test_it_works_in_a_strict_shell(checkout: Path, shell: str) -> None:
    done = run(checkout, shell, "-c", "set -eu; source init.sh; echo $-")
    assert done.returncode == 0, done.stderr
    assert {"e", "u"} <= set(done.stdout.splitlines()[-1])


def test_a_failed_setup_does_not_end_the_shell(checkout: Path, shell: str) -> None:
    (checkout.parent / "bin" / "python3").unlink()
    done = run(checkout, shell, "-c", "source init.sh || echo still here; (source init.sh)")
    assert done.stdout == "still here\n"
    assert done.stderr.count("Python 3.11 or newer is needed: there is no python3 on PATH") == 2


def test_completion_is_there_in_bash(checkout: Path) -> None:
    done = run(checkout, "bash", "-c", "source init.sh > /dev/null; complete -p dsflow")
    assert "-F _dsflow_completion dsflow" in done.stdout


def test_completion_is_there_in_an_interactive_zsh(checkout: Path) -> None:
    need(shutil.which("zsh") is not None, "zsh is not installed")
    done = run(checkout, "zsh", "-i", "-c", "source init.sh > /dev/null; echo ${_comps[dsflow]}")
    assert done.stdout.split() == ["_dsflow_completion"]


def test_an_older_python_is_named(checkout: Path) -> None:
    program(checkout.parent / "bin" / "python3", '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18\nexit 1\n')
    done = run(checkout, "bash", "init.sh")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "init.sh: Python 3.11 or newer is needed: Python 3.9.18 is too old (DSFLOW_PYTHON can name another one)."
    ]


def test_a_python_without_venv_is_named(checkout: Path) -> None:
    (checkout.parent / "bin" / "uv").unlink()
    without = f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec "{BIN}/python" "$@"\n'
    program(checkout.parent / "bin" / "python3", without)
    done = run(checkout, "bash", "init.sh")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "init.sh: python3 has no venv module; on Debian and Ubuntu: apt-get install python3-venv."
    ]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "dns error: failed to lookup\nBecause click was not found in the cache and you require click",
            "the package index cannot be reached, and click is not in the cache",
        ),
        ("invalid peer certificate: UnknownIssuer", "your network re-signs TLS: let SSL_CERT_FILE and PIP_CERT name"),
        ("Because there is no version of rich>=99", "the packages could not be installed"),
    ],
)
def test_what_could_not_be_installed_is_said_in_one_sentence(checkout: Path, said: str, sentence: str) -> None:
    program(checkout.parent / "bin" / "uv", UV + f'[ "$1" = venv ] || {{ echo "{said}" >&2; exit 1; }}\n')
    done = run(checkout, "bash", "init.sh")
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith(f"init.sh: {sentence}")
    assert done.stderr.splitlines()[-1].endswith(f"(details in {checkout}/.venv/init.log).")


def test_changed_requirements_are_installed(checkout: Path) -> None:
    run(checkout, "bash", "init.sh")
    (checkout / "pyproject.toml").write_text((checkout / "pyproject.toml").read_text() + "\n# more\n")
    run(checkout, "bash", "init.sh")
    assert calls(checkout) == ["venv", "pip", "pip"]


def test_a_broken_environment_is_made_again(checkout: Path) -> None:
    run(checkout, "bash", "init.sh")
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert run(checkout, "bash", "init.sh").returncode == 0
    assert calls(checkout) == ["venv", "pip", "venv", "pip"]


def test_an_unknown_argument_is_refused(checkout: Path) -> None:
    done = run(checkout, "bash", "init.sh", "--dmeo")
    assert done.returncode == 2
    assert "--dmeo" in done.stderr
    assert calls(checkout) == []


def test_the_help_lists_the_ways_to_call_it(checkout: Path) -> None:
    done = run(checkout, "bash", "init.sh", "--help")
    assert all(way in done.stdout for way in ("source init.sh", "bash init.sh --demo", "bash init.sh --test"))


@pytest.mark.skipif(not os.environ.get("DSFLOW_REQUIRE_SERVICES"), reason="installs every package; done in CI")
@pytest.mark.timeout(600)
def test_a_bare_clone_is_set_up_and_runs_the_sample_pipeline(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    done = subprocess.run(
        ["bash", "init.sh", "--demo"], cwd=clone, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Done. OK=15 SKIP=0 WARN=0 FAIL=0 TOTAL=15" in done.stdout
