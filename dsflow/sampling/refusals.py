"""What a `DDataflow` refuses. The names are those that code written for DDataFlow catches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dsflow.errors import UsageError, did_you_mean

FETCH = "dsflow ddataflow current_project sample_and_download"
SETUP = "dsflow ddataflow setup_project"


class UnknownKey(UsageError, TypeError):
    """A configuration has a key that nobody knows; a TypeError, as an unknown argument is for every function."""


class DataSourceNotFound(UsageError):
    """A source is asked for that `data_sources` does not have."""

    @classmethod
    def of(cls, name: str, known: Iterable[str]) -> DataSourceNotFound:
        """Give the refusal of a name."""
        return cls(f"Data source does not exist {name}{_others(name, list(known))}", "Add it to `data_sources`.")


class WriterNotFoundException(UsageError):
    """Something is to be written by a name that `data_writers` does not have."""

    @classmethod
    def of(cls, name: str, known: Iterable[str]) -> WriterNotFoundException:
        """Give the refusal of a name."""
        return cls(f"data_writers has no writer {name!r}{_others(name, list(known))}", "Add it to `data_writers`.")


class WritingToLocationDenied(UsageError):
    """A path would lead out of the folder of the samples."""


class CopyNotFound(UsageError):
    """Something is to be read from a folder of samples that is not there."""


class ProjectNotFound(UsageError):
    """There is no configuration, or it defines no sources."""


def _others(name: str, known: Sequence[str]) -> str:
    return f"{did_you_mean(name, known)} (there are: {', '.join(known)})" if known else " (there are none)"
