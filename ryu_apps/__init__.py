"""The controller: REST in, OpenFlow 1.3 out."""
