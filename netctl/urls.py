"""Where controllers are, and why one can't be reached."""

from __future__ import annotations

from urllib.parse import urlsplit


def checked_url(urls: str) -> str:
    """The URLs, with commas, without trailing slashes. ``ValueError``, with one line: one can't be a controller's."""
    return ",".join(_checked_url(url.strip()) for url in urls.split(","))


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        good = False
    if not good or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not a controller's URL: http://HOST:PORT or https://HOST:PORT")
    return url.rstrip("/")


def not_sent(error: Exception) -> bool:
    """Whether the connection was never made."""
    import requests
    import urllib3

    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(cause, urllib3.exceptions.NewConnectionError)


def reason(error: Exception) -> str:
    """The innermost cause in the system's words: the library's own line is a chain of class names."""
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    line = str(error)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            line = getattr(seen, "verify_message", "") or seen.strerror
        elif "timed out" in str(seen):
            line = "no answer in time"
        seen = seen.__cause__ or seen.__context__
    return line.splitlines()[0] if line else type(error).__name__
