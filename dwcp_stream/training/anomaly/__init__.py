"""The default anomaly model of any stream: no labels, no tuning, a memory per entity.

For every field three deviations are watched, all less a season where the data shows one (`season`): of the newest row
from a linear prediction out of the rows before it (`regression`), of the row from a slow level, and of a faster mean
from that level. Each is measured against the largest ones that the entity itself has shown lately (`memory`, kept in
the model's state), joined over fields and put on a scale with 1 at a threshold (`tail`). `recipe` fits all of it,
`model` writes it as one ONNX graph, `trainer` is the entry, `sequence` runs a finished graph over files, `baselines`,
`judging` and `report` say how good it is.
"""
