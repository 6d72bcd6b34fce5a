"""What an image's build must know of the caller's network: proxies, package indexes, certificates."""

from __future__ import annotations

import base64
import configparser
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsflow.errors import UsageError
from dsflow.masking import Masker

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY")
_BUNDLES = ("DSFLOW_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
SYSTEM_PIP_CONF = Path("/etc/pip.conf")
_DEBIAN_STORE = Path("/usr/share/ca-certificates/mozilla")


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What of the caller's surroundings goes into a build.

    Attributes:
        base: The image that `dsflow/base` starts from, where it is not the Dockerfile's own.
        proxies: Variables that every build has; the engine keeps them out of the image by itself.
        indexes: pip's and uv's variables for package indexes. The engine would write them into the image's history.
        certificates: PEM texts of authorities that Debian does not know.
    """

    base: str | None
    proxies: dict[str, str]
    indexes: dict[str, str]
    certificates: tuple[str, ...]

    @property
    def mask(self) -> Masker:
        """Blanks the passwords of proxies and indexes out of text."""
        urls = " ".join([*self.proxies.values(), *self.indexes.values()]).split()
        parts = [urllib.parse.urlsplit(url) for url in urls]
        logins = [part.netloc.rpartition("@")[0] for part in parts]
        return Masker(word for login in logins for word in (login, login.partition(":")[2]) if word)


def gather(environment: Mapping[str, str], base: str | None = None, ca_bundle: Path | None = None) -> BuildSettings:
    """Collect the settings.

    Args:
        environment: The caller's environment variables.
        base: The image to start from; DSFLOW_BASE_IMAGE stands in for it.
        ca_bundle: A file of certificates; the usual variables (SSL_CERT_FILE, ...) stand in for it.

    Raises:
        UsageError: the bundle cannot be read, or holds no certificate.
    """
    return BuildSettings(
        base=base or environment.get("DSFLOW_BASE_IMAGE") or None,
        proxies=proxies(environment),
        indexes=indexes(environment),
        certificates=_certificates(environment, ca_bundle),
    )


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the proxy variables in both spellings: apt reads only the small one, some others only the capital one."""
    found: dict[str, str] = {}
    for name in _PROXIES:
        if value := environment.get(name.lower()) or environment.get(name):
            found |= {name: value, name.lower(): value}
    return found


def indexes(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the caller's package indexes as pip's and as uv's variables, whichever of the two they were set for.

    Places on this machine (`file://`, folders) are left out: a build cannot see them.
    """
    conf = _pip_conf(environment)

    def words(*names: str) -> list[str]:
        values = [environment[name] for name in names if environment.get(name)]
        option = names[-1].removeprefix("PIP_").lower().replace("_", "-")
        # uv lets an index be written as `name=url`.
        found = [re.sub(r"^[\w.-]+=(?=\w+://)", "", word) for word in (values or [conf.get(option, "")])[0].split()]
        return [word for word in found if not word.startswith(("file:", "/", "."))]

    default = words("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    more = words("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")
    trusted = words("UV_INSECURE_HOST", "PIP_TRUSTED_HOST")
    settings = {
        "PIP_INDEX_URL": default,
        "UV_DEFAULT_INDEX": default,
        "PIP_EXTRA_INDEX_URL": more,
        "UV_INDEX": more,
        "PIP_TRUSTED_HOST": trusted,
        "UV_INSECURE_HOST": trusted,
    }
    return {name: " ".join(value) for name, value in settings.items() if value}


def _pip_conf(environment: Mapping[str, str]) -> dict[str, str]:
    home = Path.home()
    files = [
        SYSTEM_PIP_CONF, home / ".pip/pip.conf", home / "Library/Application Support/pip/pip.conf",
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
        Path(environment.get("PIP_CONFIG_FILE") or os.devnull),
    ]  # fmt: skip
    parser = configparser.RawConfigParser()
    try:
        parser.read(files)
    except (configparser.Error, UnicodeDecodeError):
        return {}
    return {section: dict(parser[section]) for section in parser.sections()}.get("global", {})


def _certificates(environment: Mapping[str, str], ca_bundle: Path | None) -> tuple[str, ...]:
    if ca_bundle is not None:
        bundle = ca_bundle
    else:
        named = [Path(environment[name]) for name in _BUNDLES if environment.get(name)]
        bundle = next(filter(Path.is_file, named), Path(os.devnull))
    try:
        text = bundle.read_text("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"the CA bundle {bundle} cannot be read: {error.strerror}", "Name a file of PEM certificates."
        ) from None
    found = dict(_split(text))
    if ca_bundle is not None and not found:
        raise UsageError(f"the CA bundle {bundle} holds no certificate", "Name a file of PEM certificates.")
    known = dict(_split(_well_known()))
    return tuple(pem for key, pem in sorted(found.items()) if key not in known)


def _split(bundle: str) -> Iterator[tuple[bytes, str]]:
    for found in _CERTIFICATE.finditer(bundle):
        try:
            yield base64.b64decode("".join(found[1].split()), validate=True), found[0] + "\n"
        except ValueError:
            continue


def _well_known() -> str:
    # Debian's own list where this is Debian: it can differ from that of Python's libraries by a few authorities.
    if files := sorted(_DEBIAN_STORE.glob("*.crt")):
        return "\n".join(file.read_text("ascii", "replace") for file in files)
    import certifi

    return Path(certifi.where()).read_text("ascii", "replace")
