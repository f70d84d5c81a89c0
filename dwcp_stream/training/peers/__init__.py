"""Other people's methods, fitted in the same run on the same rows, to be read beside a model.

A module for each task: `anomaly`, `incident`, `forecast`. `fitted` says which rows they are fitted on. What a library
is missing for is left out; `dwcp-stream evaluate --peers` says so.
"""
