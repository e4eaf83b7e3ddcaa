"""The REST API of the controller, on `ryu_apps.wsgi`."""

from ryu_apps.rest.api import Api
from ryu_apps.rest.hosts import HostTracker
from ryu_apps.rest.switches import SwitchView

__all__ = ["Api", "HostTracker", "SwitchView"]
