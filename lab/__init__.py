"""Systems that make labelled telemetry: simulators of nodes and links, and a real etcd cluster under faults.

Everything here is a seeded source of rows with a label per row, written as a CSV or Parquet file that
`replay`, `backtest`, `train` and `evaluate` read. Nothing in `dwcp_stream` imports this package: the daemon
never sees where its telemetry comes from. `signals` holds the random processes, `incidents` when something
happens and how it rises and falls, `nodes` and `links` what that does to each field, `files` the writing.
`etcd` is a package of its own.
"""
