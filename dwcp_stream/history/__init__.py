"""What a trainer trains on: recent telemetry, what alerts and operators say of it, and whether a candidate is any good.

Here belongs what makes a training set of tables, alerts and feedback, and what compares two versions of a model on the
part of it that was held out. Where the tables come from (Kafka, the archive) is `dwcp_stream.kafka.history` and
`archive`; how a model is trained is `dwcp_stream.training`.
"""
