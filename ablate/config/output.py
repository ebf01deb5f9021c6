"""Standard output and error that cannot fail a command: results are in files, and showing them is a courtesy."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class LenientStream:
    """A text stream that shows `?` for what its encoding lacks, and drops what a closed pipe or a full disk refuses."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        with suppress(AttributeError, ValueError, OSError):  # not every stream has an encoding
            stream.reconfigure(errors="replace")  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except (OSError, ValueError):
            self.give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError):
            self.give_up()

    def give_up(self) -> None:
        """Send the rest, also what Python writes at exit, nowhere."""
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def use_lenient_output() -> None:
    """Make standard output and error of this process lenient; a second call changes nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, LenientStream):
            setattr(sys, name, LenientStream(stream))
