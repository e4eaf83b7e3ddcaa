"""The fields that documents from clients may have: Contiv's and our own."""

from __future__ import annotations

from ryu_apps.rest.decode import IGNORED, INTEGER, LABELS, LIST, OBJECT, STRING, STRINGS, TRUTH, Schema

_LINKS = {"key": STRING, "link-sets": IGNORED, "links": IGNORED}

TENANT = Schema("a tenant", {"tenantName": STRING, "defaultNetwork": STRING, **_LINKS})
NETWORK = Schema(
    "a network",
    {
        "tenantName": STRING,
        "networkName": STRING,
        "nwType": STRING,
        "encap": STRING,
        "pktTag": INTEGER,
        "subnet": STRING,
        "gateway": STRING,
        "ipv6Subnet": STRING,
        "ipv6Gateway": STRING,
        "nat": TRUTH,
        "natHost": TRUTH,
        "internal": TRUTH,
        "dockerIPAM": TRUTH,
        "cfgdTag": STRING,
        **_LINKS,
    },
)
SERVICE = Schema(
    "a service",
    {
        "tenantName": STRING,
        "serviceName": STRING,
        "networkName": STRING,
        "ipAddress": STRING,
        "ipv6Address": STRING,
        "selectors": STRINGS,
        "ports": STRINGS,
        "publish": STRINGS,
        "sessionAffinity": INTEGER,
        "affinityMode": STRING,
        "drainTimeout": INTEGER,
        "healthCheck": OBJECT,
        "serviceVip": IGNORED,
        "serviceVip6": IGNORED,
        "publishedAddress": IGNORED,
        "numProviders": IGNORED,
        "healthyProviders": IGNORED,
        "noWayBack": IGNORED,
        "labelErrors": IGNORED,
        **_LINKS,
    },
)
HEALTH_CHECK = Schema(
    "a health check",
    {
        "protocol": STRING,
        "path": STRING,
        "interval": INTEGER,
        "timeout": INTEGER,
        "rise": INTEGER,
        "fall": INTEGER,
    },
)
ENDPOINT = Schema(
    "an endpoint",
    {
        "endpointID": STRING,
        "tenantName": STRING,
        "networkName": STRING,
        "ipAddress": STRINGS,
        "macAddress": STRING,
        "homingHost": STRING,
        "switch": STRING,
        "portName": STRING,
        "labels": LABELS,
        "containerID": STRING,
        "containerName": STRING,
        "health": STRING,
        "state": STRING,
        "origin": STRING,
        "weight": INTEGER,
        "noWayBack": STRING,
        "labelErrors": IGNORED,
        "primary": TRUTH,
        "passed": IGNORED,
        "key": STRING,
    },
)
HOST = Schema(
    "a host",
    {
        "hostName": STRING,
        "switch": STRING,
        "tunnelAddress": STRING,
        "version": STRING,
        "datapathType": STRING,
        "mtu": INTEGER,
        "hostAddress": IGNORED,
        "controlPlane": IGNORED,
        "draining": IGNORED,
        "state": IGNORED,
        "since": IGNORED,
        "reason": IGNORED,
        "connected": IGNORED,
        "lastHeartbeat": IGNORED,
        "appliedRevision": IGNORED,
        "errors": IGNORED,
        "key": STRING,
    },
)
HOST_ENDPOINTS = Schema("a host's state", {"endpoints": LIST, "keepLeases": STRINGS})
APPLIED = Schema("a host's progress", {"revision": INTEGER, "errors": LABELS})
LEASE = Schema(
    "a lease",
    {"tenantName": STRING, "networkName": STRING, "ipAddress": STRING, "family": INTEGER, "hostName": STRING},
)
SUBNET = Schema("a wish for a subnet", {"tenantName": STRING})
