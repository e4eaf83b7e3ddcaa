"""The REST API of the controller, on `ryu_apps.wsgi`."""

from ryu_apps.rest.api import Api, SwitchView
from ryu_apps.rest.hosts import HostTracker

__all__ = ["Api", "HostTracker", "SwitchView"]
