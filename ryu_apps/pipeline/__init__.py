"""The pure part: the model compiled to flows and groups, as plain values."""
