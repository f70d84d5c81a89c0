"""CloudEvents headers and times."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import EntityDigest, digest
from dwcp_stream.events import rfc3339


def test_binary_mode_headers():
    found = cloudevents.headers("dwcp.drift.warning", cloudevents.source("link"), "link/m", 0.5, "abc")
    assert found == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"abc"),
        ("ce_source", b"/dwcp-stream/link"),
        ("ce_type", b"dwcp.drift.warning"),
        ("ce_time", b"1970-01-01T00:00:00.500Z"),
        ("ce_subject", b"link/m"),
        ("content-type", b"application/json"),
    ]


@given(st.text(), st.text(min_size=1), st.integers(0), st.floats(allow_nan=False))
def test_the_shared_digest_is_the_digest(before, entity, after, ts):
    assert EntityDigest(["x", before], [after, "y"])(entity, ts) == digest("x", before, entity, after, "y", ts)


@given(st.floats(-62_135_596_800.0, 253_402_300_799.0))
def test_times_read_back_to_the_millisecond(ts):
    text = rfc3339(ts)
    assert text.endswith("Z")
    assert len(text) == len("2024-01-01T00:00:00.000Z")
    assert abs(datetime.fromisoformat(text).timestamp() - ts) <= 0.000_55


@pytest.mark.parametrize("ts", [float("nan"), float("inf"), 1e12, -1e12])
def test_what_is_no_time_is_refused(ts):
    with pytest.raises(ValueError, match="not a time"):
        rfc3339(ts)
