"""Tests on real containers and a real switch."""
