"""What runs for long, or is not solid yet: `make soak`. On an Open vSwitch of its own, as the functional tests."""

from tests.functional.conftest import _swept, bare, instance, pytest_runtest_makereport

__all__ = ["_swept", "bare", "instance", "pytest_runtest_makereport"]
