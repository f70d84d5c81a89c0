"""A real etcd cluster under load and faults, and recordings of it as labelled `consensus` telemetry."""
