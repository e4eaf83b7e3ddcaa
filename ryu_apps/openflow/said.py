"""What is said about switches: the one of this process."""

from __future__ import annotations

import logging

from topology.complaints import Complaints

COMPLAINTS = Complaints(logging.getLogger("ryu_apps.openflow"))
