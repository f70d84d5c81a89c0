"""What one sink has been told, what fires by the topic, and so what is still to be told.

The topic repeats transitions after a crash of a worker, and may hold weeks of alerts when a sink is new or was away for
long. Neither must reach people: a repeat is known by its identity, and an old alert that is over is left out.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from dwcp_stream.events import Alert

Verdict = Literal["tell", "repeat", "stale", "untold", "below", "silenced"]
"""`tell` it, or why not: told before; old and over; the end of what was never told; less severe than the sink wants;
held back by a silence, which whoever asks has to find out."""

MOST_SEEN: Final = 65_536
"""Transitions whose identity is remembered; repeats come within a checkpoint interval or two."""
SEVERITIES: Final = {"warning": 0, "critical": 1, "emergency": 2}


class Telling(NamedTuple):
    """A transition to tell, and what the sink was told last of the same alert, if it fires."""

    alert: Alert
    before: Alert | None


@dataclass(slots=True)
class Ledger:
    """The alerts of one partition, as one sink knows them; an alert is in one partition only.

    Attributes
    ----------
    fires
        What fires by the newest transitions that are known, by fingerprint.
    told
        What the sink was told last of each alert that it takes for firing, by fingerprint.
    held
        What fires and was not told because it was silenced, by fingerprint.
    """

    fires: dict[str, Alert] = field(default_factory=dict)
    told: dict[str, Alert] = field(default_factory=dict)
    held: dict[str, Alert] = field(default_factory=dict)
    _seen: OrderedDict[tuple[str, ...], None] = field(default_factory=OrderedDict)

    def know(self, alert: Alert) -> None:
        """Note a transition of the topic, whether or not it is to be told."""
        _keep(self.fires, alert)

    def tell(self, alert: Alert) -> Telling:
        """Note that the sink was told a transition; returns it with what it was told before."""
        telling = Telling(alert, self.told.get(alert.fingerprint))
        self.see(alert)
        _keep(self.told, alert)
        self.held.pop(alert.fingerprint, None)
        return telling

    def hold(self, alert: Alert) -> None:
        """Note that a transition was due and is silenced."""
        self.see(alert)
        _keep(self.held, alert)

    def see(self, alert: Alert) -> None:
        """Note that a transition has had its turn."""
        if alert.action == "resolved":
            self.held.pop(alert.fingerprint, None)
        self._seen[_identity(alert)] = None
        self._seen.move_to_end(_identity(alert))
        while len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)

    def judge(self, alert: Alert, age: float, stale_after: float, severity: str = "warning") -> Verdict:
        """Say whether a transition is to be told.

        Parameters
        ----------
        age
            Seconds since the topic has it.
        stale_after
            From this age on an alert that has ended by `fires` is not told any more.
        severity
            The least that the sink wants.
        """
        told = alert.fingerprint in self.told
        if _identity(alert) in self._seen:
            return "repeat"
        if alert.action == "resolved":
            return "tell" if told else "untold"
        if SEVERITIES.get(alert.severity, 0) < SEVERITIES[severity]:
            return "below"
        newest = self.fires.get(alert.fingerprint)
        if age > stale_after and not told and (newest is None or newest.starts_at != alert.starts_at):
            return "stale"
        return "tell"


def _keep(alerts: dict[str, Alert], alert: Alert) -> None:
    if alert.action == "resolved":
        alerts.pop(alert.fingerprint, None)
    else:
        alerts[alert.fingerprint] = alert


def _identity(alert: Alert) -> tuple[str, ...]:
    return (alert.fingerprint, alert.starts_at, alert.action, alert.event_time)
