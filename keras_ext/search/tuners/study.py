"""An Optuna study of the trials of a KerasTuner search."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from keras_ext._checks import bad_argument
from keras_ext._wording import one_line
from keras_ext.search.records import ENDED, PLACEHOLDER, Record, record_of
from keras_ext.search.trial_report import reported_of
from keras_ext.search.tuners.distributions import as_optuna, asked
from keras_ext.search.tuners.journal import Journal
from keras_ext.search.tuners.samplers import quiet

# The user attribute that has KerasTuner's name of a trial.
TRIAL = "trial"
# That which has what the monitor found in it.
FINDINGS = "findings"
JOURNAL = "study.journal"
_NAME = "search"


def new_study(direction: str, storage: BaseStorage | None = None, name: str = _NAME, **kwargs: Any) -> optuna.Study:
    """Return the study of this name, made if it is missing; `direction` is KerasTuner's word."""
    way = "maximize" if direction == "max" else "minimize"
    with quiet():
        return optuna.create_study(storage=storage or InMemoryStorage(), study_name=name, direction=way, load_if_exists=True, **kwargs)


def study_of(records: Sequence[Record], space: Sequence[Any], direction: str) -> optuna.Study:
    """Return a study in memory of trials that have ended."""
    study = new_study(direction)
    study.add_trials([frozen(record, space, record.score) for record in sorted(records, key=lambda r: r.number)])
    return study


def frozen(
    record: Record, space: Sequence[Any], score: float | None, is_running: bool = False, is_pruned: bool | None = None
) -> FrozenTrial:
    """Return a trial as Optuna keeps it; `is_pruned` says for a trial that a pruner ended whether it counts so."""
    params, distributions = as_optuna(space, record.hyperparameters)
    state = TrialState.RUNNING if is_running else _state(record, score, is_pruned)
    return optuna.trial.create_trial(
        state=state,
        value=None if state in (TrialState.FAIL, TrialState.RUNNING) else score,
        params=params,
        distributions=distributions,
        user_attrs=_attributes(record),
        intermediate_values=_steps(record),
    )


def _state(record: Record, score: float | None, is_pruned: bool | None = None) -> TrialState:
    if score is None:
        return TrialState.FAIL
    return TrialState.PRUNED if record.is_pruned and is_pruned is not False else TrialState.COMPLETE


def _attributes(record: Record) -> dict[str, Any]:
    return {TRIAL: record.trial, "diagnosis": record.diagnosis, "ended": record.ended, "symptoms": list(record.symptoms)}


def _steps(record: Record) -> dict[int, float]:
    return {epoch: score for epoch, score in enumerate(record.scores, start=1) if score is not None}


class TunerStudy:
    """The study of one tuner, which follows its trials: what KerasTuner keeps of them is what counts.

    Args:
        tuner: a KerasTuner tuner.
        storage: of Optuna, or its URL. None: a journal in the project's folder.
        in_memory: keep the study in this process alone.
        tell_pruned: tell Optuna that pruned trials are pruned; else that they are complete, for samplers that read no others.
    """

    def __init__(self, tuner: Any, storage: Any = None, in_memory: bool = False, tell_pruned: bool = True) -> None:
        self._tuner, self._tell_pruned = tuner, tell_pruned
        name, oracle = _NAME, tuner.oracle
        self._journal: Journal | None = None
        if in_memory:
            storage = InMemoryStorage()
        elif storage is None:
            self._journal = Journal(Path(tuner.project_dir, JOURNAL))
            storage = JournalStorage(self._journal)
        else:
            name = str(Path(tuner.project_dir).resolve())
            storage = _opened(storage)
        self.study = new_study(oracle.objective.direction, storage, name)
        if not oracle.trials and self.study.get_trials(deepcopy=False):
            with quiet():
                optuna.delete_study(study_name=name, storage=storage)
            self.study = new_study(oracle.objective.direction, storage, name)
        self._storage, self._name = storage, name
        # Optuna's ids of KerasTuner's trials, and those whose end is not reported yet.
        self._ids: dict[str, int] = {}
        self._untold: set[str] = set()
        # The next trial, where Optuna has chosen it, and KerasTuner had not written it when the search was killed.
        self._begun: int | None = None
        self.is_exhausted = False
        self._follow()

    @property
    def space(self) -> list[Any]:
        """Return the hyperparameters of the search."""
        return self._tuner.oracle.hyperparameters.space

    def _follow(self) -> None:
        """Bring the study to what KerasTuner knows: one of the two may have been killed before the other wrote."""
        trials = self._tuner.oracle.trials
        for known in self.study.get_trials(deepcopy=False):
            name, trial_id = known.user_attrs.get(TRIAL, ""), self._id(known.number)
            if name in trials and (known.state != TrialState.FAIL or trials[name].status == "FAILED"):
                self._ids[name] = trial_id
            elif known.state == TrialState.RUNNING and name == str(len(trials)).zfill(len(name)) and self._is_whole(known):
                self._begun = trial_id
            elif not known.state.is_finished():
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        for trial in trials.values():
            self.begin(trial)
        self.tell()

    def ask(self, name: str, values: dict[str, Any], sampler: Any = None) -> dict[str, Any]:
        """Return the values of the next trial: `values`, and where they do not say, those that the sampler chooses."""
        params = as_optuna(self.space, values)[0] if values else {}
        if sampler is not None:
            self.study.sampler = sampler
        begun, self._begun = self._begun, None
        if begun is not None:
            self._ids[name] = begun
            self._storage.set_trial_user_attr(begun, TRIAL, name)  # KerasTuner names it by the number of all trials
            self._untold.add(name)
            return asked(optuna.trial.FixedTrial(self._storage.get_trial(begun).params), self.space)
        with quiet(), self._in_one_write():
            if params:
                self.study.enqueue_trial(params)
            trial = self.study.ask()
            trial.set_user_attr(TRIAL, name)
            found = asked(trial, self.space)
        self._ids[name] = self._id(trial.number)
        self._untold.add(name)
        return found

    def _is_whole(self, known: FrozenTrial) -> bool:
        """Return whether a trial has a value for each hyperparameter."""
        try:
            asked(optuna.trial.FixedTrial(known.params), self.space)
        except ValueError:
            return False
        return True

    def _in_one_write(self) -> contextlib.AbstractContextManager[None]:
        return self._journal.in_one_write() if self._journal is not None else contextlib.nullcontext()

    def drop(self, name: str) -> None:
        """Tell Optuna that a trial that was asked for is not tried."""
        self._untold.discard(name)
        self._storage.set_trial_state_values(self._ids.pop(name), TrialState.FAIL)

    def begin(self, trial: Any) -> None:
        """Add a trial that KerasTuner has begun, if the study does not have it."""
        name = trial.trial_id
        if name not in self._ids:
            number = len(self.study.get_trials(deepcopy=False))
            self.study.add_trial(frozen(record_of(self._tuner, trial), self.space, None, is_running=True))
            self._ids[name] = self._id(number)
        known = self._storage.get_trial(self._ids[name])
        if not known.state.is_finished():
            self._untold.add(name)
            if known.user_attrs.get(FINDINGS):  # it runs again after a kill
                self._storage.set_trial_user_attr(self._ids[name], FINDINGS, [])

    def report(self, trial: Any, epoch: int, score: float) -> FrozenTrial:
        """Keep the score after an epoch, and return the trial as it was then; one that has ended stays as it is."""
        known = self._storage.get_trial(self._ids[trial.trial_id])
        if known.state.is_finished():
            return known
        self._storage.set_trial_intermediate_value(self._ids[trial.trial_id], epoch, score)
        known = self._storage.get_trial(self._ids[trial.trial_id])
        # A trial that runs again after a kill has the scores of its later epochs.
        known.intermediate_values = {step: value for step, value in known.intermediate_values.items() if step <= epoch}
        return known

    def finds(self, trial: Any, finding: str) -> None:
        """Keep what the monitor found."""
        trial_id = self._ids[trial.trial_id]
        known = self._storage.get_trial(trial_id)
        found = known.user_attrs.get(FINDINGS, [])
        if finding not in found and not known.state.is_finished():
            self._storage.set_trial_user_attr(trial_id, FINDINGS, [*found, finding])

    def tell(self) -> None:
        """Tell Optuna what has become of the trials that have ended since."""
        trials = self._tuner.oracle.trials
        for name in sorted(self._untold):
            trial = trials.get(name)
            if trial is None or trial.status not in ENDED:
                continue  # under way, or to be tried again
            score = trial.score if trial.status == "COMPLETED" else None
            if score is not None and abs(score) >= PLACEHOLDER and reported_of(self._tuner, trial)["stands_in"]:
                continue  # until there is a score that it can get instead
            self._untold.discard(name)
            self._finish(trial, score)

    def _finish(self, trial: Any, score: float | None) -> None:
        record, trial_id = record_of(self._tuner, trial), self._ids[trial.trial_id]
        known = self._storage.get_trial(trial_id)
        params, distributions = as_optuna(self.space, record.hyperparameters)
        for name in params.keys() - known.params.keys():  # that its model was the first to ask for
            self._storage.set_trial_param(trial_id, name, distributions[name].to_internal_repr(params[name]), distributions[name])
        for epoch, value in _steps(record).items():
            if known.intermediate_values.get(epoch) != value:
                self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        for name, value in _attributes(record).items():
            self._storage.set_trial_user_attr(trial_id, name, value)
        state = _state(record, score, self._tell_pruned)
        try:
            with quiet():
                self.study.tell(known.number, score if state == TrialState.COMPLETE else None, state)
        except RuntimeError as error:
            # Optuna's samplers of a grid end the study so, which it allows in its own loop alone; it has kept the trial.
            if "Study.stop" not in str(error):
                raise
            self.is_exhausted = True

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._storage.get_study_id_from_name(self._name), number)


def _opened(storage: Any) -> BaseStorage:
    if isinstance(storage, BaseStorage):
        return storage
    try:
        return RDBStorage(storage)
    except Exception as error:  # of the database's own driver
        raise bad_argument("storage", "the URL of a database that can be opened", storage, f"{one_line(error)}") from None
