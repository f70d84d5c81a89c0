"""When a version's forecasts have lost what made them worth more than the last value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.events import Accuracy, rfc3339
from dwcp_stream.loop.pairs import PairedErrors
from dwcp_stream.loop.skill import WINDOW, WORTH, WORTHLESS, lost

HOUR, BEGIN = 3600.0, 1_700_000_000.0
DAY = round(WINDOW / HOUR)


def series(*parts: tuple[int, float]):
    """Ends of hourly buckets and sums of errors, from parts of so many hours with an error as a share of the naive."""
    shares = np.concatenate([np.full(hours, share) for hours, share in parts])[:, None]
    return BEGIN + HOUR * np.arange(1, len(shares) + 1), 100 * shares, np.full_like(shares, 100.0)


@pytest.mark.parametrize(
    ("parts", "hours"),
    [
        ([(4 * DAY, 0.8)], None),
        ([(2 * DAY, 0.8), (3 * DAY, 1.0)], 2 * DAY + 22),  # 22 hours without skill and 2 with .2: .017 is under .02
        ([(2 * DAY, 0.8), (DAY // 2, 2.0), (2 * DAY, 1.0)], 2 * DAY + 4),
        ([(2 * DAY, 0.8), (DAY // 2, 1.1), (2 * DAY, 0.8)], None),  # half a day is no day
        ([(2 * DAY, 0.8), (2 * DAY, 1.0), (3 * DAY, 0.8)], None),  # it came back
        ([(2 * DAY, 0.8), (2 * DAY, 1.0), (3 * DAY, 0.96)], 2 * DAY + 22),  # too little of it came back
        ([(3 * DAY, 1.2)], DAY + 1),  # it never had any: known after the first day
        ([(DAY, 1.2)], None),
        ([(4 * DAY, 0.97)], None),  # little skill is some
    ],
)
def test_skill_is_lost_when_a_day_goes_by_without_any(parts, hours):
    found = lost(*series(*parts))
    assert found == (None if hours is None else BEGIN + hours * HOUR)


def test_lines_count_alike_and_those_without_errors_do_not():
    ends, mine, naive = series((3 * DAY, 0.5))
    errors = np.hstack([mine, 2e6 * np.ones_like(mine), np.zeros_like(mine)])
    beside = np.hstack([naive, 1e6 * np.ones_like(naive), np.zeros_like(naive)])
    assert lost(ends, errors, beside) is not None, "half the error on one line, twice on the other: 1.25 in the mean"
    assert lost(ends, errors[:, [0, 2]], beside[:, [0, 2]]) is None
    assert lost(ends, errors[:, 2:], beside[:, 2:]) is None


def test_errors_that_exploded_once_hide_nothing_for_longer_than_a_day():
    ends, mine, naive = series((3 * DAY, 0.8), (4 * DAY, 1.0))
    mine[DAY] = 1e90
    assert lost(ends, mine, naive) == BEGIN + (3 * DAY + 22) * HOUR


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0.0, 2.0)), min_size=1, max_size=8), st.data())
def test_it_is_the_beginning_of_what_lasts(parts, data):
    ends, mine, naive = series(*parts)
    found = lost(ends, mine, naive)

    def skill(i: int) -> float:
        over = (ends > ends[i] - WINDOW) & (ends <= ends[i])
        return 1 - mine[over].sum() / naive[over].sum()

    known = [i for i in range(len(ends)) if ends[i] - ends[0] >= WINDOW]
    if found is None:
        bad = [i for i in known if skill(i) < WORTHLESS - 1e-9]
        assert all(any(skill(j) > WORTH - 1e-9 for j in known if j > i) for i in bad)
        return
    at = int(np.flatnonzero(ends == found)[0])
    assert skill(at) <= WORTHLESS + 1e-9
    assert all(skill(i) < WORTH + 1e-9 for i in known if i > at)
    until = data.draw(st.integers(at + 1, len(ends)))
    assert lost(ends[:until], mine[:until], naive[:until]) == found, "what comes later does not move it"


def test_what_was_lost_before_all_that_is_kept_was_lost_when_the_version_was_first_seen():
    pairs, found = PairedErrors(4 * WINDOW), set()
    for hour in range(1, 20 * DAY):
        end = rfc3339(BEGIN + hour * HOUR)
        part = Accuracy(
            stream="s", model="m", version=1, arm="champion", horizon=1, target="x", partition=0, bucket_start=end,
            bucket_end=end, event_time=end, n=1, abs_error=1.0, sq_error=1.0, error=0.0, ape=0.0, ape_n=0,
            persistence_n=1, persistence_abs_error=1.0, paired_abs_error=1.0, pinball=0.0, covered=1, covered_raw=1,
            missed=0,
        )  # fmt: skip
        pairs.add(str(hour), part)
        if hour > 6 * DAY:
            found.add(pairs.lost("s", "m", 1))
    assert found == {BEGIN + HOUR}, "else it would seem to be lost anew each day"
    assert pairs.lost("s", "m", 2) is None
    assert pairs.lost("s", "another", 1) is None
