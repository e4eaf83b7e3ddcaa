"""The command line, its client, and the agent of a Docker host."""

__version__ = "0.1.0"
