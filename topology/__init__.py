"""The model: what tenants, networks, services and endpoints there are. Standard library only."""

__version__ = "0.1.0"
