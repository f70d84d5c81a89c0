"""The anomaly model of the consensus stream: what it sees, what it learns, its graph and its report.

`data` reads labelled runs, `features` is what the graph sees of a window and of the cluster's memory, `classifier`
the network that tells kinds of trouble from normal time, `surprise` what is unusual whatever its kind, `folds` how
thresholds are chosen on rows that the networks did not see, `model` the whole as one ONNX graph.
"""
