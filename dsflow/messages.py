"""Messages between processes of this machine: JSON over a Unix socket, with open files."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

# A message begins with its length in this many bytes.
_HEADER = 4


def receive(channel: socket.socket, most: int = 0) -> tuple[dict[str, Any], list[int]] | None:
    """Wait for a message, and give it with at most so many open files; None when there will be no other."""
    header, files, _, _ = socket.recv_fds(channel, _HEADER, most)
    if not header:
        return None
    header += _exactly(channel, _HEADER - len(header))
    return json.loads(_exactly(channel, int.from_bytes(header, "big"))), files


def send(channel: socket.socket, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
    """Send a message with some open files.

    Raises:
        OSError: there is nobody at the other end.
    """
    body = json.dumps(message).encode()
    # The files go with the first byte; how much of a long message goes with it is up to the system.
    socket.send_fds(channel, [len(body).to_bytes(_HEADER, "big")], files)
    channel.sendall(body)


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            raise EOFError("the other end went away in the middle of a message")
        parts += part
    return bytes(parts)
