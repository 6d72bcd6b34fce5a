"""Ctrl-C, or SIGTERM: the first asks whatever runs to save and stop, the second kills it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Interruption:
    """What those who can be interrupted share. `asked` tells whether it has happened."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._listeners: list[Callable[[bool], None]] = []

    def tell(self, listener: Callable[[bool], None]) -> None:
        """Call this when the user interrupts: with False the first time, with True (kill) from then on."""
        self._listeners.append(listener)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals for as long as this lasts; nothing happens in a thread that cannot have them."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        kill = self.asked.is_set()
        self.asked.set()
        # In a thread: whoever is told may take locks, which this thread may hold, and an engine its time.
        threading.Thread(target=self._tell, args=(kill,), daemon=True).start()

    def _tell(self, kill: bool) -> None:
        for listener in self._listeners:
            listener(kill)
