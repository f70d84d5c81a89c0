"""Alerts of all streams of one cluster and time as one incident, and silences for planned work."""

from dwcp_stream.incidents.grouping import cluster_of, group
from dwcp_stream.incidents.incident import Incident, Member
from dwcp_stream.incidents.payload import build_incident
from dwcp_stream.incidents.silences import Silence, Silences, build_silence, matches, silenced
from dwcp_stream.incidents.tracker import IncidentTracker

__all__ = [
    "Incident",
    "IncidentTracker",
    "Member",
    "Silence",
    "Silences",
    "build_incident",
    "build_silence",
    "cluster_of",
    "group",
    "matches",
    "silenced",
]
