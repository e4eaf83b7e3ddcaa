"""The model: what tenants, networks, services and endpoints there are. Needs only the standard library and msgspec."""

__version__ = "0.1.0"
