"""The terminal: text from files and settings is escaped before it is shown there."""

import logging
from typing import Any

from rich.console import Console
from rich.text import Text

from ablate.config.wording import printable


class EscapingConsole(Console):
    """A console that shows control characters as escapes, in lines and in tables."""

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print; in a notebook long lines are broken, as they would not be there."""
        super().print(*objects, soft_wrap=soft_wrap and not self.is_jupyter, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


class EscapingFormatter(logging.Formatter):
    """Formats log records, with control characters as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
