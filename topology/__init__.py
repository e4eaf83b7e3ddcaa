"""The model: what tenants, networks, services and endpoints there are. Standard library only."""
