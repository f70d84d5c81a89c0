"""Entity keys: the parts of an entity, percent-encoded and joined by a slash."""

from collections.abc import Sequence
from urllib.parse import quote, unquote

MAX_PART_LENGTH = 256


def encode_entity(parts: Sequence[str]) -> str:
    """Join entity parts to the key used in Kafka, in tables and in alerts.

    Raises
    ------
    ValueError
        If there is no part, or one is empty, longer than `MAX_PART_LENGTH`, or not encodable as UTF-8.

    Examples
    --------
    >>> encode_entity(["eu-1", "rack/7"])
    'eu-1/rack%2F7'
    """
    if not parts:
        raise ValueError("an entity needs at least one part")
    for part in parts:
        if not part:
            raise ValueError("an entity part is empty")
        if len(part) > MAX_PART_LENGTH:
            raise ValueError(f"an entity part is longer than {MAX_PART_LENGTH} characters")
    return "/".join(quote(part, safe="") for part in parts)


def decode_entity(entity: str) -> tuple[str, ...]:
    """Parts of an encoded entity, the inverse of `encode_entity`.

    Examples
    --------
    >>> decode_entity("eu-1/rack%2F7")
    ('eu-1', 'rack/7')
    """
    return tuple(unquote(part) for part in entity.split("/"))
