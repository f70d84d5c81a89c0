"""Kafka, and the only place that knows Faust: chunk consumer, state store, checkpoint, producers, topics.

What the samples mean is elsewhere (`streams`, `windows`, `pipeline`); agents are in `topologies`. Import the
module you need: this package re-exports nothing, so that listing topics does not load Faust.
"""
