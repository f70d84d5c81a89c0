"""An alert policy from a TOML file: the table [alert] of a stream definition, alone or in one."""

from pathlib import Path

import msgspec

from dwcp_stream.errors import UNREADABLE, ConfigError
from dwcp_stream.streams.checks import problems
from dwcp_stream.streams.definition import AlertPolicy, StreamDefinition


def with_policy(stream: StreamDefinition, path: Path) -> StreamDefinition:
    """Return a stream with the [alert] table of a file; other tables of it are ignored.

    Raises
    ------
    ConfigError
        It cannot be read, has no [alert], or says something impossible.
    """
    try:
        found = msgspec.toml.decode(path.read_bytes())
        policy = msgspec.convert(found["alert"], AlertPolicy)
    except OSError as error:
        raise ConfigError(
            f"cannot read the policy: {error.strerror}", where=str(path), remedy="Check the path"
        ) from error
    except KeyError as error:
        raise ConfigError(
            "there is no table [alert]",
            where=str(path),
            remedy="Write [alert] with what shall change, as in a stream definition",
        ) from error
    except UNREADABLE as error:
        raise ConfigError(str(error), where=f"{path}: alert", remedy="docs/streams.md lists the keys") from error
    changed = msgspec.structs.replace(stream, alert=policy)
    for problem in problems(changed):
        raise ConfigError(problem.what, where=f"{path}: {problem.key}", remedy=problem.remedy)
    return changed
