"""Search a trainer's parameters: each trial trains a whole model, and its loss on validation rows decides.

Test rows decide nothing: a candidate's `validation` is computed where its threshold is chosen, too.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from dwcp_stream.errors import ConfigError, PayloadError
from dwcp_stream.training.job import Candidate, Job, Space, Trainer
from dwcp_stream.training.publish import data_hash

FOLDER = ".tuning"
STARTUP = 5
"""Random trials before those that Optuna's sampler proposes."""


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes
    ----------
    parameters
        The best trial's.
    best, usual
        Its loss on validation rows, and that of the trainer's own parameters, which are the first trial.
    trials
        How many there are by now.
    """

    parameters: Mapping[str, float]
    best: float
    usual: float
    trials: int


def tune(job: Job, trainer: Trainer, space: Space, trials: int, root: Path) -> tuple[Tuned, Candidate | None]:
    """Search until there are so many trials; those of an earlier run of the same search count.

    The sampler is a tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) with the job's seed.

    Parameters
    ----------
    job
        What to train.
    trainer, space
        Its trainer, and the parameters that it takes.
    trials
        Trials in all, the first with the trainer's own parameters.
    root
        Model repository; the search is kept in its folder `.tuning`, by model, and goes on from there.

    Returns
    -------
    tuple
        What was found; and the best candidate, None if an earlier run trained it.

    Raises
    ------
    ConfigError
        If the trainer has no parameters to search.
    PayloadError
        If the files do not suffice for a validation part.
    """
    if not space:
        raise ConfigError(
            "there is nothing to search: the model's trainer chooses by itself",
            where=job.binding.name,
            remedy="Leave out --trials",
        )
    study = _study(job, space, root)
    found: dict[int, Candidate] = {}

    def one(trial: optuna.Trial) -> float:
        number = len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))
        chosen = {name: _suggest(trial, name, space) for name in space}
        candidate = trainer(replace(job, parameters=chosen, progress=_part(job.progress, number, trials)))
        if candidate.validation is None:
            raise PayloadError(
                "there is no loss on validation rows to search by",
                where=job.binding.name,
                remedy="Give longer or more histories, or leave out --trials",
            )
        found[trial.number] = candidate
        for worse in sorted(found, key=lambda n: float(found[n].validation or 0.0))[1:]:
            del found[worse]
        return candidate.validation

    done = len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))
    if not study.trials:
        study.enqueue_trial({name: parameter.usual for name, parameter in space.items()})
    study.optimize(one, n_trials=max(trials - done, 0))
    complete = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    best = study.best_trial
    tuned = Tuned(dict(best.params), float(best.values[0]), float(complete[0].values[0]), len(complete))
    return tuned, found.get(best.number)


def _study(job: Job, space: Space, root: Path) -> optuna.Study:
    """Open the search of this model on this data with this seed, or begin it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(folder / f"{job.binding.name}.log"))
    bounds = ";".join(f"{name}={p.low:g}..{p.high:g}" for name, p in sorted(space.items()))
    return optuna.create_study(
        study_name="/".join([data_hash(job.files)[:16], _definition(job), str(job.seed), str(job.epochs or 0), bounds]),
        storage=JournalStorage(backend),
        sampler=optuna.samplers.TPESampler(seed=job.seed, n_startup_trials=STARTUP),
        load_if_exists=True,
    )


def _definition(job: Job) -> str:
    """Short hash of the stream's definition: other fields, windows or targets are another search."""
    return hashlib.sha256(repr((job.stream, job.binding)).encode()).hexdigest()[:16]


def _suggest(trial: optuna.Trial, name: str, space: Space) -> float:
    parameter = space[name]
    if parameter.whole:
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)


def _part(progress: Callable[[float, str], None], number: int, trials: int) -> Callable[[float, str], None]:
    return lambda share, what: progress((number + share) / trials, f"trial {number + 1} of {trials}: {what}")
