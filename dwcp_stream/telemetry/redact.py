"""Keeping secrets out of logs: by key, by the shape of a URL, and by the values that the settings hold."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel, SecretStr

HIDDEN = "***"
SECRET_KEY = re.compile(r"passw|secret|token|credential|authorization|api_?key|private_?key", re.IGNORECASE)
# user:password@ of a URL, also where the password itself holds an @.
URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]+@")
# password=..., "sasl_plain_password": '...' inside a text, such as the repr of some options. What stands before the
# word is not looked at: trying all beginnings of a long word takes time by the square of its length.
ASSIGNMENT = re.compile(
    r"((?:passw(?:or)?d|secret|token)['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;)}\]]+)",
    re.IGNORECASE,
)


def secrets_of(settings: BaseModel) -> frozenset[str]:
    """Return the values of all SecretStr fields of some settings: sections, lists and tables included."""
    return frozenset(_secrets(settings)) - {""}


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)


def spellings(secret: str) -> set[str]:
    """Return a secret as it is, and as Python and JSON write it inside quotes: aiokafka logs requests as bytes."""
    return {
        secret,
        repr(secret)[1:-1],
        repr(secret.encode())[2:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }


class Redactor:
    """Replaces secrets in anything that is about to be written.

    Parameters
    ----------
    secrets
        Values that must not appear anywhere, not even inside a traceback.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spelt = {spelling for secret in secrets for spelling in spellings(secret)}
        ordered = sorted(spelt - {""}, key=len, reverse=True)  # the longest first: one may hold another
        self._known = re.compile("|".join(re.escape(secret) for secret in ordered)) if ordered else None

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        text = URL_CREDENTIALS.sub(f"{HIDDEN}@", text)
        text = ASSIGNMENT.sub(rf"\1{HIDDEN}", text)
        return self._known.sub(HIDDEN, text) if self._known else text

    def value(self, value: object) -> object:
        """Return a value without secrets: containers are entered, objects shown by their repr."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {
                key: HIDDEN if SECRET_KEY.search(str(key)) and item is not None else self.value(item)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(repr(value))
