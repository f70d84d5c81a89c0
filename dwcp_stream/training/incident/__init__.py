"""The default incident model: boosted trees on features that any stream has, judged against each entity's own normal.

The graph's parts (`design`, `normal`, `features`, `graphs`), the rows to learn from (`data`, `sessions`, `table`),
learning (`boosting`, `thresholds`) and judging (`baselines`, `judging`, `comparing`, `report`) belong here; `trainer`
puts them together. The node stream's own model, with the reference's 123 features, is `dwcp_stream.training.trees`.
"""
