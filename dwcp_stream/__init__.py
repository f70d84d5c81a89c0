"""Streaming anomaly detection for DWCP clusters."""
