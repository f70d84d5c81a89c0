"""Sites for the fault tests: a source topic with the probe's telemetry, and what one undisturbed worker makes of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.probe import Telemetry
from tests.integration.workers import Final, Site


@dataclass
class Filled:
    """A source that nobody adds to any more, and the reference run's outcome."""

    site: Site
    telemetry: Telemetry
    reference: Final


@pytest.fixture(scope="session")
def filled(kafka, tmp_path_factory) -> Iterator[Filled]:
    """100,000 samples with 6,000 known transitions; tests read it with runs of their own."""
    site = Site(kafka.bootstrap, tmp_path_factory.mktemp("filled"), f"t{uuid.uuid4().hex[:8]}")
    telemetry = Telemetry(400, 250)

    async def fill() -> Final:
        await site.create()
        await site.write(telemetry)
        return await site.reference()

    try:
        reference = asyncio.run(fill())
        assert reference.transitions == telemetry.transitions()
        assert reference.repeats == 0
        yield Filled(site, telemetry, reference)
    finally:
        site.stop()


@pytest.fixture
def site(kafka, tmp_path, unique) -> Iterator[Site]:
    """A source of this test's own; its workers are killed at the end."""
    site = Site(kafka.bootstrap, tmp_path, unique)
    yield site
    site.stop()


@pytest.fixture
def filled_site(filled) -> Iterator[Site]:
    """The shared source's site; the workers that the test started are killed at the end."""
    yield filled.site
    filled.site.stop()
