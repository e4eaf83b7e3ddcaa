"""Log lines about switches, limited in rate."""

from __future__ import annotations

import logging

from topology.complaints import Complaints

COMPLAINTS = Complaints(logging.getLogger("ryu_apps.openflow"))
