"""Errors a user can meet. Each is one line and knows its HTTP status.

    NetctlError              500
    ├── BadRequest           400   not JSON, an unknown field, a field of the wrong type
    ├── NotFound             404   a named object does not exist
    ├── Conflict             409   taken, in use, or contradicting what exists
    ├── TooLarge             413   a body or list over its limit
    ├── Invalid              422   well formed, but the value cannot be
    └── Unavailable          503   a part that must answer did not
"""

from __future__ import annotations


class NetctlError(Exception):
    """Base of all refusals; ``str(error)`` is the one line that the user reads."""

    status = 500


class BadRequest(NetctlError):
    """The request itself is malformed."""

    status = 400


class NotFound(NetctlError):
    """A named object does not exist."""

    status = 404


class Conflict(NetctlError):
    """The wish contradicts what already exists."""

    status = 409


class TooLarge(NetctlError):
    """More than the limit that the message names."""

    status = 413


class Invalid(NetctlError):
    """A field's value can't be right."""

    status = 422


class Unavailable(NetctlError):
    """A part that had to answer did not answer in time."""

    status = 503
