"""Sample times: epoch seconds, or RFC 3339 text with an offset, as float64 epoch seconds UTC."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams.floats import floats

# msgspec parses RFC 3339 itself; tz=True refuses local times, whose instant is unknown
Rfc3339 = Annotated[datetime, msgspec.Meta(tz=True)]

# Later than this is not a date: it is milliseconds, microseconds or nanoseconds taken for seconds
MAX_SECONDS = 253_402_300_800.0  # 10000-01-01T00:00:00Z


def seconds(times: Sequence[float | datetime | None]) -> NDArray[np.float64]:
    """Epoch seconds of a column of times; None becomes NaN.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> seconds([1.5, None, datetime(1970, 1, 1, 0, 1, tzinfo=UTC)])
    array([ 1.5,  nan, 60. ])
    """
    try:
        return floats(times).copy()  # type: ignore[arg-type]
    except TypeError:  # a datetime among them
        plain = [time.timestamp() if isinstance(time, datetime) else time for time in times]
        return np.array(plain, dtype=np.float64)
