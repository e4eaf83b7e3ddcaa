"""netctl-agent: one a Docker host. Docker's plugin and events in, veth pairs and switch ports out."""
