"""Compare a candidate with the champion on rows that the candidate has not seen, and say whether it may go on.

This keeps out candidates that are plainly bad, so that they never score anything. Whether a candidate is better is
found out later, by its realised errors as a shadow and as a challenger: a hold-out of hours is too short to tell.
"""

import math
from collections.abc import Callable
from typing import Final

from dwcp_stream.history.comparison import Comparison
from dwcp_stream.history.detection import judge_alarms, judge_hearing, labelled_rows
from dwcp_stream.history.forecasting import judge_forecasts
from dwcp_stream.history.made_up import make_up
from dwcp_stream.history.training_set import TrainingSet
from dwcp_stream.history.trial_run import TrialRun, trial_run
from dwcp_stream.scoring import Model
from dwcp_stream.streams import StreamDefinition

MARGIN: Final = 0.05
"""By how much more than its yardstick a candidate may err."""


def compare(
    stream: StreamDefinition,
    candidate: Model,
    champion: Model | None,
    data: TrainingSet,
    *,
    margin: float = MARGIN,
    progress: Callable[[float], None] = lambda _: None,
) -> Comparison:
    """Run both over the hold-out and judge the candidate.

    Both begin with nothing known of any entity: what the champion remembers would come from the very rows that a
    broken sender may have spoilt. Without a champion a forecaster is held against repeating the last value, and an
    incident model against chance.

    Parameters
    ----------
    stream
        The definition that both are bound to.
    candidate, champion
        Versions of one model; None: there is no champion yet.
    data
        Its `holdout` is what they are compared on.
    margin
        Largest share by which the candidate's mean relative MAE, or its average precision, may be worse.
    progress
        Called with the share done.
    """
    made_up = None
    if candidate.task != "forecast" and champion is not None:
        made_up = make_up(stream, data.holdout, data.label)
    tables = [data.holdout, *([] if made_up is None else [made_up.table])]
    total = max(sum(map(len, tables)) * (1 if champion is None else 2), 1)
    done = 0

    def advance(samples: int) -> None:
        nonlocal done
        done += samples
        progress(min(done / total, 1.0))

    own, *troubled = [trial_run(candidate, stream, table, advance) for table in tables]
    its = None
    if champion is not None:
        its, *others = [trial_run(champion, stream, table, advance) for table in tables]
        troubled += others
    ts = data.holdout[stream.time].to_numpy()
    said = Comparison(
        task=candidate.task,
        champion=None if champion is None else champion.version,
        rows=len(ts),
        begins=float(ts.min(initial=math.inf)),
        ends=float(ts.max(initial=-math.inf)),
        reasons=tuple(_broken(own, its)),
    )
    if candidate.task == "forecast":
        said = judge_forecasts(said, own, its, data.holdout, margin)
    heard = judge_alarms(said, own, its, labelled_rows(stream, data), margin)
    # A forecaster that begins with nothing known of an entity is surprised by its seasons: its alarms are looked at
    # when it has run beside the champion, see `loop.decider`.
    said = heard.judged(said.reasons) if candidate.task == "forecast" else heard
    if made_up is not None:
        said = judge_hearing(said, made_up.pieces, *(made_up.found(run) for run in troubled))
    return said


def _broken(own: TrialRun, its: TrialRun | None) -> list[str]:
    """Return what is wrong with the numbers that a candidate puts out."""
    reasons = []
    if own.infinite:
        reasons.append(f"it puts out infinite numbers at {own.infinite} windows")
    if not own.scored:
        reasons.append("no window of the hold-out got a score")
    elif its is not None and own.scored < its.scored:
        reasons.append(
            f"it has no score for {its.scored - own.scored} of {its.scored} windows that the champion scores"
        )
    return reasons
