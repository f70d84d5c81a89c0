"""Fixtures for every tier: one real Kafka per test session, started when the first test asks for it."""

import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from dwcp_stream.telemetry.logs import NOISY
from tests.kafka.broker import RealKafka

# How long an example takes says more about the machine than about the code.
settings.register_profile("dwcp", deadline=None)
settings.load_profile("dwcp")


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Put logging back: a command run in this process sets it up, and pytest's handlers are on the root logger."""
    loggers = [logging.getLogger(), *map(logging.getLogger, NOISY)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class ExistingKafka:
    """A broker that somebody else runs, named by DWCP_TEST_BOOTSTRAP."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka | ExistingKafka]:
    """Apache Kafka with `bootstrap`; tests share it, so each uses names of its own (`topic_prefix`)."""
    existing = os.environ.get("DWCP_TEST_BOOTSTRAP")
    if existing:
        yield ExistingKafka(existing)
        return
    with RealKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[RealKafka]:
    """A broker for this test alone, which may stop, kill or pause it."""
    with RealKafka(tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def unique() -> str:
    """A short name that no other test or run uses: for app ids, groups and topics."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def topic_prefix(unique: str) -> str:
    """A topic prefix of this test alone."""
    return f"{unique}."
