"""What the lab raises on purpose."""

from typing import ClassVar

from dwcp_stream.errors import DwcpError


class LabError(DwcpError):
    """The cluster cannot be run, or does not do what it must."""

    error_type: ClassVar[str] = "lab"


class RequestError(LabError):
    """A member refused a request, or did not answer it in time."""
