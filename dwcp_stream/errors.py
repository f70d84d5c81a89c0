"""One root for every error the daemon raises on purpose.

Each error says what went wrong, where, and what to do; its `error_type` and `stage` are the bounded words
that appear in logs, metrics and dead-letter headers alike.
"""

from typing import ClassVar, Literal

Stage = Literal["receiving", "processing", "sending"]

UNREADABLE = (ValueError, RecursionError)
"""What decoders of JSON, MessagePack and TOML raise for bytes that they cannot read.

msgspec's own errors are ValueErrors, and so are wrong UTF-8 and integers of thousands of digits; what is nested without
end is a RecursionError.
"""

MISFITS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What taking plain values apart raises when they are not what was once put together."""


class DwcpError(Exception):
    """An error with a bounded type, a stage and a remedy.

    Parameters
    ----------
    what
        What is wrong, in a clause.
    where
        File, key, topic or payload path it was found at.
    remedy
        What the reader can do about it.
    """

    error_type: ClassVar[str] = "internal"
    stage: ClassVar[Stage] = "processing"

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.remedy}" if self.remedy else text


class ConfigError(DwcpError):
    """A setting or a stream definition is wrong."""

    error_type = "config"
    stage = "receiving"


class PayloadError(DwcpError):
    """A file or a payload cannot be read as telemetry."""

    error_type = "payload"
    stage = "receiving"


class ModelError(DwcpError):
    """A model is refused: wrong files, hash, schema, shapes, operators or results."""

    error_type = "model"


class UnreachableError(ModelError):
    """The place where models are does not answer: nothing is known about the model, and it may answer later."""


class StateError(DwcpError):
    """A snapshot or partition record cannot be used."""

    error_type = "state"
    stage = "receiving"


class NewerStateError(StateError):
    """State was written by a newer version of the daemon, which must not be overwritten."""

    error_type = "state_newer"


class BrokerError(DwcpError):
    """Kafka cannot be reached, or refuses what was asked."""

    error_type = "broker"
    stage = "sending"
