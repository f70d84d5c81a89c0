"""A Prometheus page as series: what an exporter, or a Prometheus server's federation, says at one time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from dwcp_stream.errors import PayloadError


class Series(NamedTuple):
    """One series of a page: name, labels, value, and epoch seconds of its time."""

    name: str
    labels: Mapping[str, str]
    value: float
    ts: float


@dataclass(frozen=True)
class Page:
    """All that was asked of one address at one time.

    Parameters
    ----------
    url
        Where it is from.
    series
        What it says.
    own_times
        Whether series bring times of their own, as those of a federation do.
    """

    url: str
    series: tuple[Series, ...]
    own_times: bool


def parse_page(
    text: str,
    url: str,
    now: float,
    labels: Mapping[str, str],
    wanted: Callable[[str, Mapping[str, str]], bool] = lambda _name, _labels: True,
) -> Page:
    """Parse a page in the text format of Prometheus.

    Parameters
    ----------
    now
        Epoch seconds of the look, the time of series that bring none.
    labels
        Given to series that lack them, such as job and instance.
    wanted
        Says of name and labels whether a series is kept.

    Raises
    ------
    PayloadError
        If it is no such page.
    """
    kept: list[Series] = []
    own = False
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                told = {**labels, **sample.labels}
                if wanted(sample.name, told):
                    own = own or sample.timestamp is not None
                    ts = now if sample.timestamp is None else float(sample.timestamp)
                    kept.append(Series(sample.name, told, float(sample.value), ts))
    except (ValueError, IndexError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PayloadError(
            f"is no Prometheus page: {first[:120]}", where=url, remedy="Give the address of /metrics or /federate"
        ) from error
    return Page(url, tuple(kept), own)
