"""The forecaster for any stream: what `[[models]]` with the task `forecast` gets unless a trainer of its own exists.

`layout` says which columns, seasons and numbers of state there are; `plan` chooses them from training rows;
`memory`, `features`, `regression`, `network`, `judge` and `graph` are the parts of the model; `sequence` runs a
graph over a history as the daemon would; `trainer` puts it together and `report` says how good it is.
"""
