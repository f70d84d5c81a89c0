"""The demonstration: an embedded broker, real workers, replayed and simulated telemetry, a live view, a summary.

It uses the daemon as a user would, through its commands and topics; nothing of the daemon knows of it.
"""
