"""What can go wrong in the agent. Each is one line for a user or for the log.

AgentError
├── Refusal          Docker asked for something that can't be: goes back to the user as ``{"Err": line}``
│   └── Malformed    the request itself is not one of Docker's
├── SwitchError      Open vSwitch or the kernel did not do what was asked
└── StartError       the agent can't start
"""

from __future__ import annotations

from topology.text import one_line


class AgentError(Exception):
    """Base; ``str(error)`` is the one line. What it is made of may be from outside."""

    def __init__(self, line: str) -> None:
        super().__init__(one_line(line))


class Refusal(AgentError):
    """The answer to a plugin call that can't be carried out."""

    status = 200  # Docker reads ``Err`` of a 200 and shows the line as it is


class Malformed(Refusal):
    """A plugin call that Docker would not make."""

    def __init__(self, line: str, status: int = 400) -> None:
        super().__init__(line)
        self.status = status


class SwitchError(AgentError):
    """Open vSwitch or the kernel did not do it."""


class StartError(AgentError):
    """The agent can't start."""
