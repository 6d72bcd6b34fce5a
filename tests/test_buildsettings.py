"""What a build gets of the caller's network."""

from __future__ import annotations

import base64
from pathlib import Path

import certifi
import pytest

from dsflow.containers import settings as buildsettings
from dsflow.containers.settings import gather, indexes, proxies
from dsflow.errors import UsageError


def certificate(content: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(content).decode()}-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(buildsettings, "SYSTEM_PIP_CONF", tmp_path / "no-pip.conf")


def test_proxies_go_in_both_spellings_because_programs_read_one_each() -> None:
    assert proxies({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost", "OTHER": "x"}) == {
        "HTTPS_PROXY": "http://proxy:3128",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "localhost",
        "no_proxy": "localhost",
    }


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_an_index_set_for_pip_or_uv_serves_both(name: str) -> None:
    assert indexes({name: "https://pypi.acme/simple"}) == {
        "PIP_INDEX_URL": "https://pypi.acme/simple",
        "UV_DEFAULT_INDEX": "https://pypi.acme/simple",
    }


def test_more_indexes_and_trusted_hosts() -> None:
    assert indexes({"UV_INDEX": "acme=https://a/simple https://b/simple?x=y", "PIP_TRUSTED_HOST": "a"}) == {
        "PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple?x=y",
        "UV_INDEX": "https://a/simple https://b/simple?x=y",
        "PIP_TRUSTED_HOST": "a",
        "UV_INSECURE_HOST": "a",
    }


def test_places_on_this_machine_are_left_out() -> None:
    assert indexes({"PIP_INDEX_URL": "file:///opt/simple", "PIP_EXTRA_INDEX_URL": "/opt/more https://b/simple"}) == {
        "PIP_EXTRA_INDEX_URL": "https://b/simple",
        "UV_INDEX": "https://b/simple",
    }


def test_pip_conf_counts_below_the_environment(tmp_path: Path) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://conf/simple\nextra-index-url =\n  https://a/simple\n  https://b/simple\n"
    )
    found = indexes({"PIP_CONFIG_FILE": str(conf)})
    assert found["UV_DEFAULT_INDEX"] == "https://conf/simple"
    assert found["UV_INDEX"] == "https://a/simple https://b/simple"
    assert indexes({"PIP_CONFIG_FILE": str(conf), "PIP_INDEX_URL": "https://env/simple"})["UV_DEFAULT_INDEX"] == (
        "https://env/simple"
    )
    conf.write_text("no section\n")
    assert indexes({"PIP_CONFIG_FILE": str(conf)}) == {}


def test_passwords_are_masked_in_what_a_build_prints() -> None:
    settings = gather(
        {"PIP_INDEX_URL": "https://me:hunter2@pypi.acme/simple", "HTTPS_PROXY": "http://you:swordfish@proxy:1"}
    )
    shown = settings.mask("Looking in https://me:hunter2@pypi.acme/simple, hunter2 via http://you:swordfish@proxy:1")
    assert "hunter2" not in shown
    assert "swordfish" not in shown
    assert "pypi.acme" in shown


def test_only_certificates_that_the_image_lacks_are_added_one_per_file(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    ours = [certificate(b"our company " * 9), certificate(b"its proxy " * 9)]
    bundle.write_text("# Our CA\n" + ours[0] + Path(certifi.where()).read_text() + ours[1] + ours[1])
    found = gather({}, None, bundle).certificates
    assert set(ours) <= set(found)
    # Debian's list and certifi's differ by a few; what matters is that the well-known ones are not added.
    assert len(found) < 30
    assert all(pem.count("BEGIN CERTIFICATE") == 1 for pem in found)


def test_the_usual_variables_name_the_bundle_and_ours_goes_first(tmp_path: Path) -> None:
    usual, own = tmp_path / "usual.pem", tmp_path / "own.pem"
    usual.write_text(certificate(b"usual"))
    own.write_text(certificate(b"own"))
    environment = {"SSL_CERT_FILE": str(tmp_path / "gone.pem"), "REQUESTS_CA_BUNDLE": str(usual)}
    assert gather(environment).certificates == (certificate(b"usual"),)
    assert gather({**environment, "DSFLOW_CA_BUNDLE": str(own)}).certificates == (certificate(b"own"),)
    assert gather(environment, None, own).certificates == (certificate(b"own"),)
    assert gather({}).certificates == ()


def test_a_bundle_that_was_asked_for_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the CA bundle .*none.pem cannot be read: No such file"):
        gather({}, None, tmp_path / "none.pem")
    (tmp_path / "empty.pem").write_text("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n")
    with pytest.raises(UsageError, match="holds no certificate"):
        gather({}, None, tmp_path / "empty.pem")
