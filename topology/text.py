"""Text from outside, such as labels, names and answers, made safe to show: on one line, without control characters."""

from __future__ import annotations

import logging
from types import TracebackType

MOST = 500  # characters of a line that are shown
LOGGED = 2000  # characters of a log line
CUT = "..."


def clean(text: str) -> str:
    """The text on one line, with control and format characters escaped: a terminal would obey them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, most: int = MOST) -> str:
    """The text as `clean` makes it, and not longer than ``most`` characters."""
    found = clean(text[: most + 1])
    return found if len(found) <= most else found[: most - len(CUT)] + CUT


class OneLine(logging.Formatter):
    """A formatter for logs that hold text from outside: each record is one line, except for a traceback.

    A traceback is indented, so that no text in it can pass for another record.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        record.message = one_line(record.message, LOGGED)
        return super().formatMessage(record)

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """The traceback of a record."""
        return "\n".join("  " + one_line(line, LOGGED) for line in super().formatException(ei).splitlines())
