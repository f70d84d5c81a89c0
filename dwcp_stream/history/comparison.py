"""What a comparison of a candidate with the champion says, as plain numbers for reports and messages."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dwcp_stream.training.metrics import plain
from dwcp_stream.training.report import table


@dataclass(frozen=True)
class ForecastLine:
    """Errors at one horizon and target, on the same rows; the champion's are NaN where there is none.

    `relative` is the candidate's MAE as a share of the yardstick's: the champion's, else that of repeating the last
    value. MAEs are in the target's unit; skill is over repeating the last value; coverage is that of the corrected 80 %
    interval.
    """

    horizon: int
    target: str
    n: int
    champion_n: int
    mae: float
    champion_mae: float
    persistence_mae: float
    relative: float
    skill: float
    champion_skill: float
    coverage: float
    champion_coverage: float


@dataclass(frozen=True)
class Alarms:
    """Alarms of a model on the hold-out.

    Attributes
    ----------
    verdicts, entity_days
        Windows scored, and the entities' time that they cover.
    alerts
        Alerts that began.
    astray
        Those of them that tell of no known trouble.
    firing
        Share of the scored windows outside known trouble at which one of these fires.
    found
        Stretches of known trouble in which an alert fires.
    average_precision, roc_auc
        Of the score at windows whose label is known; NaN unless there are both.
    """

    verdicts: int
    entity_days: float
    alerts: int
    astray: int
    firing: float
    found: int
    average_precision: float
    roc_auc: float


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the champion on the hold-out, and whether it may go on.

    Attributes
    ----------
    task
        Of the model.
    champion
        Version of the champion; 0 is the detector that needs no training, None is no champion at all.
    rows, begins, ends
        Samples of the hold-out, and its time in epoch seconds.
    reasons
        What speaks against the candidate.
    acceptable
        Whether nothing does; false as long as nothing has been judged.
    relative
        Forecasts: geometric mean of the lines' `relative`; else NaN.
    forecasts
        A line for each horizon and target.
    troubles, prevalence
        Stretches of known trouble, and its share of the windows whose label is known: the average precision of a score
        that knows nothing.
    made_up, made_up_found, champion_made_up_found
        Pieces of trouble that were made up, and those at which a score is over the threshold; 0 if none were made.
    alarms, champion_alarms
        None without a champion.
    """

    task: str
    champion: int | None
    rows: int
    begins: float
    ends: float
    reasons: tuple[str, ...] = ()
    acceptable: bool = False
    relative: float = float("nan")
    forecasts: tuple[ForecastLine, ...] = ()
    troubles: int = 0
    prevalence: float = float("nan")
    made_up: int = 0
    made_up_found: int = 0
    champion_made_up_found: int = 0
    alarms: Alarms | None = None
    champion_alarms: Alarms | None = None

    def judged(self, reasons: Sequence[str], **found: Any) -> "Comparison":
        """Return this with what was found, and the verdict that follows from the reasons."""
        return replace(self, reasons=tuple(reasons), acceptable=not reasons, **found)

    def plain(self) -> dict[str, Any]:
        """Return plain numbers, None for NaN."""
        lines = [plain(asdict(line)) for line in self.forecasts]
        exact = {"begins": self.begins, "ends": self.ends, "reasons": list(self.reasons)}
        return {**plain(asdict(self)), **exact, "forecasts": lines}

    def section(self) -> str:
        """Return Markdown for a report."""
        beside = {None: "no champion", 0: "the detector that needs no training"}.get(
            self.champion, f"version {self.champion}"
        )
        said = [
            f"{self.rows} samples after those that it was trained on, beside {beside}; both begin with nothing known."
        ]
        if self.forecasts:
            header = ("horizon", "target", "n", "MAE", "champion", "persistence", "relative", "coverage", "champion's")
            said.append(
                table(
                    header,
                    [
                        (
                            *(f.horizon, f.target, f.n, f.mae, f.champion_mae, f.persistence_mae, f.relative),
                            *(f.coverage, f.champion_coverage),
                        )
                        for f in self.forecasts
                    ],
                )
            )
        for name, alarms in (("candidate", self.alarms), ("champion", self.champion_alarms)):
            if alarms is not None:
                said.append(
                    f"The {name}: {alarms.alerts} alerts in {alarms.entity_days:.2f} entity-days, "
                    f"{alarms.astray} of them about no known trouble, which fire at "
                    f"{alarms.firing:.2%} of the windows outside; {alarms.found} of {self.troubles} "
                    f"known troubles found; average precision "
                    f"{_number(alarms.average_precision)} where chance has {_number(self.prevalence)}."
                )
        if self.made_up:
            said.append(
                f"Of {self.made_up} made-up troubles the candidate finds {self.made_up_found}, the champion "
                f"{self.champion_made_up_found}."
            )
        return "\n\n".join(said)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
