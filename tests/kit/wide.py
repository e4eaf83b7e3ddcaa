"""IPv6 addresses of tests, each after an IPv4 one: 10.1.2.3 → fd00:10:1:2::3, 10.1.2.0/24 → fd00:10:1:2::/64."""

from __future__ import annotations

from ipaddress import IPv6Address


def wide(text: str) -> str:
    """The IPv6 address, or subnet, that goes with an IPv4 one; nothing goes with nothing."""
    if not text:
        return ""
    address, slash, _ = text.partition("/")
    a, b, c, d = address.split(".")
    return f"{IPv6Address(f'fd00:{a}:{b}:{c}::{d}')}{'/64' if slash else ''}"


def of_family(version: int, text: str) -> str:
    """The address of this family that goes with an IPv4 one."""
    return text if version == 4 else wide(text)
