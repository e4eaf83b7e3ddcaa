"""The wire: flows and groups as OpenFlow 1.3 bytes, and the session of one datapath."""
