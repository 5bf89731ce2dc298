"""Which samples of a table are put aside, and the folds of the others: each class keeps its share, and groups stay whole."""

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from keras_ext._checks import BadInput

# Groups are dealt into at most so many piles, of which a share takes some: of fewer piles, each has about the shares of the classes.
_PILES = 10
# Share of the samples that the test may have more, so that all folds are of one size.
_FEW = 0.05


@dataclass(frozen=True)
class Parts:
    """Parts the samples of a table.

    Args:
        name: what the user calls the table.
        y: class numbers, or the numbers to predict; shape (samples,).
        classes: names of the classes; None for regression.
        groups: numbers of the samples' groups; None: each sample is on its own.
    """

    name: str
    y: np.ndarray
    classes: tuple[str, ...] | None
    groups: np.ndarray | None = None

    def apart(self, samples: np.ndarray, share: float, seed: int, multiple: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples that are kept, and about this share of them, at least one of each class where there are no groups.

        Without groups, the number of those that are kept is a multiple of `multiple`, where this takes few more samples.
        """
        if self.groups is not None:
            return self._groups_apart(samples, share, seed)
        size = max(math.ceil(round(len(samples) * share, 9)), len(self.classes or ()))
        more = (len(samples) - size) % multiple
        size += more if more <= _FEW * len(samples) else 0
        if len(samples) - size < max(1, len(self.classes or ())):
            raise BadInput(
                f"{self.name}: {len(samples)} samples are too few to put {size} aside and keep one of each class. Take smaller shares for "
                "validation and test, or more samples."
            )
        from sklearn.model_selection import train_test_split  # takes a second

        stratify = None if self.classes is None else self.y[samples]
        kept, apart = train_test_split(samples, test_size=size, random_state=seed, stratify=stratify)
        return kept, apart

    def folds(self, samples: np.ndarray, count: int, seed: int) -> np.ndarray:
        """Return the number of the fold of each of these samples.

        Raises:
            BadInput: there are fewer samples, groups or samples of a class than folds, or all groups with a class are in one fold.
        """
        from sklearn.model_selection import KFold, StratifiedKFold

        self._check_folds(samples, count)
        if self.groups is not None:
            numbers = self._piles(samples, count, seed)
            self.check_classes(samples, [samples[numbers != fold] for fold in range(count)])
            return numbers
        kind = KFold if self.classes is None else StratifiedKFold
        numbers = np.empty(len(samples), "int32")
        for fold, (_, held_out) in enumerate(kind(count, shuffle=True, random_state=seed).split(samples, self.y[samples])):
            numbers[held_out] = fold
        return numbers

    def check_groups(self, parts: int) -> None:
        """Raise BadInput where there are fewer groups than parts."""
        count = parts if self.groups is None else len(np.unique(self.groups))
        if count < parts:
            raise BadInput(
                f"{self.name}: has {count} group{'s' * (count != 1)} of samples, and {parts} parts need one each. Take fewer parts, or "
                "groups of another column."
            )

    def check_classes(self, samples: np.ndarray, trainings: list[np.ndarray]) -> None:
        """Raise BadInput where a class of these samples is missing in one of the trainings."""
        if self.classes is None or self.groups is None:
            return
        for number, name in enumerate(self.classes):
            if not all((self.y[training] == number).any() for training in trainings):
                count = len(np.unique(self.groups[samples][self.y[samples] == number]))
                raise BadInput(
                    f"{self.name}: class {name} is in {count} group{'s' * (count != 1)} alone, so that a training has none of it. Add "
                    "groups with it, or remove the class."
                )

    def _check_folds(self, samples: np.ndarray, count: int) -> None:
        if self.classes is None:
            fewest, of, noun = len(samples), "there are", "sample"
        else:
            counts = np.bincount(self.y[samples], minlength=len(self.classes))
            fewest, of, noun = int(counts.min()), f"class {self.classes[counts.argmin()]} has", "sample"
        groups = fewest if self.groups is None else len(np.unique(self.groups[samples]))
        if groups < fewest:
            fewest, of, noun = groups, "there are", "group"
        if fewest < count:
            fix = f"Take at most {fewest}" if fewest > 1 else "Leave them out"
            what = f"{fewest} {noun}{'s' * (fewest != 1)} outside the test"
            raise BadInput(f"{self.name}: {of} {what}, fewer than the {count} `folds`. {fix}, or add samples.")

    def _groups_apart(self, samples: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.groups is not None
        counts = np.bincount(self.y[samples]) if self.classes is not None else np.array([len(samples)])
        most = int(min(_PILES, len(np.unique(self.groups[samples])), counts.max()))
        if most < 2:
            raise BadInput(
                f"{self.name}: has one large group of samples beside the test. Take a smaller test, or groups of another column."
            )
        taken, count = Fraction(float(share)).limit_denominator(most).as_integer_ratio()
        if not 0 < taken < count:
            taken, count = (1, most) if taken == 0 else (most - 1, most)
        chosen = np.random.default_rng(seed).permutation(count)[:taken]
        is_apart = np.isin(self._piles(samples, count, seed), chosen)
        return samples[~is_apart], samples[is_apart]

    def _piles(self, samples: np.ndarray, count: int, seed: int) -> np.ndarray:
        """Return the number of each sample's pile; of groups, piles have about equal numbers of samples, and of each class."""
        from sklearn.model_selection import StratifiedGroupKFold

        assert self.groups is not None
        numbers, groups = np.empty(len(samples), "int32"), self.groups[samples]
        # Of numbers to predict all count as one class.
        y = np.zeros(len(samples), "int32") if self.classes is None else self.y[samples]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes that not every pile can have
            for pile, (_, found) in enumerate(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(samples, y, groups)):
                numbers[found] = pile
        return numbers
