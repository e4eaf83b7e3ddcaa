"""The command line, its client, and the agent of a Docker host."""

from topology import __version__

__all__ = ["__version__"]
