"""How large something may be that is copied."""

from __future__ import annotations

from dsflow.errors import UsageError
from dsflow.quantities import show_bytes


class OverLimit(UsageError):
    """A sample would be larger than its source allows; nothing was copied."""


def check_limit(name: str, estimate: int | None, limit: int, hint: str = "") -> None:
    """Refuse what is larger than it may be; what nobody can estimate is let through.

    Args:
        name: The source, for the message.
        estimate: The bytes that it is expected to have.
        limit: The bytes that it may have.
        hint: What to do about it.

    Raises:
        OverLimit: it is too large.
    """
    if estimate is not None and estimate > limit:
        usual = f"Give {name} a smaller `sample`, a `filter`, or a larger `limit`."
        problem = f"the sample of {name} would have about {show_bytes(estimate)}, and its limit is {show_bytes(limit)}"
        raise OverLimit(problem, hint or usual)
