"""Tests of dwcp-stream; what tests share is imported as `tests.*`, test modules are not."""
