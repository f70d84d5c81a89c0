"""What can be commanded: one type per action, in an envelope that says who, to whom, in which order, until when."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._*-]+$")]
Version = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]


class OfVersion(msgspec.Struct, frozen=True, tag_field="do", forbid_unknown_fields=True):
    """What is done with a version of a model; once, by those who hear it."""

    model: Name
    version: Version
    standing: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{type(self).__struct_config__.tag} {self.model} {self.version}"


class Promote(OfVersion, frozen=True, tag="promote"):
    """Make a version champion."""


class Rollback(OfVersion, frozen=True, tag="rollback"):
    """Make last_good champion again in the place of `version`, which has to be champion."""


class Shadow(msgspec.Struct, frozen=True, tag_field="do", tag="shadow", forbid_unknown_fields=True):
    """Let a version score beside the champion without being heard; without a version, none does so any more."""

    model: Name
    version: Version | None
    standing: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"shadow {self.model} {self.version or 'none'}"


class Split(msgspec.Struct, frozen=True, tag_field="do", tag="split", forbid_unknown_fields=True):
    """Let a version serve `share` percent of the entities as challenger; without a version the share is 0."""

    model: Name
    version: Version | None
    share: Annotated[int, msgspec.Meta(ge=0, le=100)]
    standing: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse a version without a share and a share without a version."""
        if (self.version is None) != (self.share == 0):
            raise ValueError("a version needs a share of 1 to 100, and without a version the share is 0")

    def __str__(self) -> str:
        return f"split {self.model} {self.version or 'none'} {self.share}%"


class Retrain(msgspec.Struct, frozen=True, tag_field="do", tag="retrain", forbid_unknown_fields=True):
    """Train a new version of a model now; a matter of the trainer, not of workers."""

    model: Name
    standing: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"retrain {self.model}"


class SetLogLevel(msgspec.Struct, frozen=True, tag_field="do", tag="log_level", forbid_unknown_fields=True):
    """Write log messages from this level on."""

    level: Literal["debug", "info", "warning", "error"]
    standing: ClassVar[bool] = True
    """A worker that starts later obeys it too, as long as it is in the topic."""

    def __str__(self) -> str:
        return f"log-level {self.level}"


Action = Promote | Rollback | Shadow | Split | Retrain | SetLogLevel


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action and what makes it safe to obey; the signature is over the bytes of exactly this, as they were sent.

    `key_id` says whose key has signed. `audience` is `*`, an `app_id`, that with a stream's name (its consumer group),
    or an `instance_id`. `sequence` grows from command to command of a key to an audience. `not_after` is compared with
    the time at which the broker appended the record.
    """

    key_id: Name
    audience: Name
    sequence: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    not_after: Annotated[datetime, msgspec.Meta(tz=True)]
    action: Action
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""
