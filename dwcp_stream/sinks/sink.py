"""A place where alerts go: its name, its address, and what it is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from dwcp_stream.events import Alert, encoder
from dwcp_stream.setting_sections import SinkSettings, Webhook
from dwcp_stream.sinks import alertmanager, templates
from dwcp_stream.sinks.ledger import Telling


class Message(NamedTuple):
    """The body of one request, and how many alerts it is about."""

    body: bytes
    alerts: int


class Sink(Protocol):
    """What every sink has; everything here is pure."""

    @property
    def name(self) -> str:
        """Its name, which is a label of metrics and a part of its consumer group."""

    @property
    def severity(self) -> str:
        """The least that it wants."""

    @property
    def url(self) -> str:
        """Where requests go; may be secret."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of every request; may be secret."""

    @property
    def batch(self) -> int:
        """How many transitions it takes in one request."""

    @property
    def forgets(self) -> bool:
        """Whether it has to be told again and again what fires."""

    def tell(self, tellings: Sequence[Telling], now: float) -> Message:
        """Return the request for some transitions, at most `batch`; `now` in epoch seconds."""

    def remind(self, alerts: Sequence[Alert], now: float) -> Message:
        """Return the request that says that alerts, at most `batch`, go on firing; only for one that forgets."""


@dataclass(frozen=True, slots=True)
class AlertmanagerSink:
    """One Alertmanager. Of a cluster each member is one, as each is told by itself.

    Parameters
    ----------
    resolve_after
        Seconds after which an alert that is not sent again is over for Alertmanager.
    """

    name: str
    url: str
    headers: Mapping[str, str]
    resolve_after: float
    severity: str = "warning"
    batch: int = alertmanager.MOST
    forgets: bool = True

    def tell(self, tellings: Sequence[Telling], now: float) -> Message:
        """See `Sink`."""
        return Message(encoder.encode(alertmanager.told(tellings, now, self.resolve_after)), len(tellings))

    def remind(self, alerts: Sequence[Alert], now: float) -> Message:
        """See `Sink`."""
        return Message(encoder.encode(alertmanager.firing(alerts, now, self.resolve_after)), len(alerts))


@dataclass(frozen=True, slots=True)
class WebhookSink:
    """One webhook; it is sent each transition once."""

    webhook: Webhook

    @property
    def name(self) -> str:
        """See `Sink`."""
        return self.webhook.name

    @property
    def severity(self) -> str:
        """See `Sink`."""
        return self.webhook.severity

    @property
    def url(self) -> str:
        """See `Sink`."""
        return self.webhook.url.get_secret_value()

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Sink`."""
        return {name: value.get_secret_value() for name, value in self.webhook.headers.items()}

    @property
    def batch(self) -> int:
        """See `Sink`."""
        return 1

    @property
    def forgets(self) -> bool:
        """See `Sink`."""
        return False

    def tell(self, tellings: Sequence[Telling], now: float) -> Message:
        """See `Sink`."""
        del now
        ((alert, _),) = tellings
        return Message(self._body(alert), 1)

    def remind(self, alerts: Sequence[Alert], now: float) -> Message:
        """See `Sink`."""
        raise RuntimeError(f"a webhook is told once: not again of {len(alerts)} alerts at {now}")

    def _body(self, alert: Alert) -> bytes:
        if self.webhook.template == "slack":
            return encoder.encode(templates.slack(alert))
        if self.webhook.template == "pagerduty" and self.webhook.routing_key is not None:
            return encoder.encode(templates.pagerduty(alert, self.webhook.routing_key.get_secret_value()))
        return encoder.encode(templates.generic(alert))


def sinks_of(settings: SinkSettings) -> list[Sink]:
    """Return the sinks that settings name."""
    headers = {name: value.get_secret_value() for name, value in settings.alertmanager_headers.items()}
    members = [
        AlertmanagerSink(
            f"alertmanager-{urlsplit(url).netloc.replace(':', '-').lower()}",
            url.rstrip("/") + alertmanager.PATH,
            headers,
            settings.resolve_seconds,
        )
        for url in settings.alertmanager_urls
    ]
    return [*members, *map(WebhookSink, settings.webhooks)]
