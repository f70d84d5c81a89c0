"""Other detectors for the same rows: those of `dwcp-stream evaluate --peers`."""

from dwcp_stream.training.peers.anomaly import Peer, half_space_trees, peers, standardised

__all__ = ["Peer", "half_space_trees", "peers", "standardised"]
