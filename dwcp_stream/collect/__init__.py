"""From Prometheus pages to samples of a stream, by a map.

Here belong selectors, maps and the arithmetic between two pages. Fetching pages and sending samples do not: that is
`kafka.collector`.
"""

from dwcp_stream.collect.mapper import Collected, Mapper
from dwcp_stream.collect.maps import CollectMap, MapField, load_map
from dwcp_stream.collect.page import Page, parse_page

__all__ = ["CollectMap", "Collected", "MapField", "Mapper", "Page", "load_map", "parse_page"]
