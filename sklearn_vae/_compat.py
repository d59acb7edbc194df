"""Private names of scikit-learn and PyTorch that this package imports, and nowhere else.

Both libraries may move or change them in any release without notice. A public name replaces a
private one here as soon as there is one, for the oldest supported version too. Private methods of
their base classes are called where a subclass needs them, as in ``model_selection.py``.
"""

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import (
    _fit_and_score as fit_and_score,
    _insert_error_scores as insert_error_scores,
    _warn_or_raise_about_fit_failures as warn_or_raise_about_fit_failures,
)
from sklearn.utils._param_validation import (
    Interval as AnyInterval,
    MissingValues,
    StrOptions as AnyStrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_output_config as get_output_config
from sklearn.utils.metaestimators import _safe_split as safe_split
from sklearn.utils.validation import (
    _check_feature_names_in as check_feature_names_in,
    _check_method_params as check_method_params,
    _check_sample_weight as check_sample_weight,
    _num_samples as num_samples,
)

if TYPE_CHECKING:
    import torch
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor


class Interval(AnyInterval):
    """Constraint of a parameter to numbers in an interval: no bool, no float beyond 64 bits."""

    def is_satisfied_by(self, val: object) -> bool:
        """Test whether a value is a number in the interval."""
        is_long = self.type is Real and isinstance(val, Integral) and abs(int(val)) >= 1 << 63
        return not (isinstance(val, bool) or is_long) and super().is_satisfied_by(val)


class StrOptions(AnyStrOptions):
    """Constraint of a parameter to some strings, which messages list in alphabetical order."""

    def __str__(self) -> str:
        return f"a str among {{{', '.join(map(repr, sorted(self.options)))}}}"


def boosted_trees(
    model: "HistGradientBoostingClassifier | HistGradientBoostingRegressor",
) -> list[tuple[float, list[np.ndarray]]]:
    """Return the sums of a fitted model: values, and the nodes of the trees added to them."""
    baselines = np.ravel(model._baseline_prediction).tolist()
    sums = zip(*model._predictors, strict=True)
    trees = [[tree.nodes for tree in predictors] for predictors in sums]
    return list(zip(baselines, trees, strict=True))


def fused_adam_(*args: Any, **kwargs: Any) -> None:
    """Take one fused step of Adam on lists of tensors, without the Python side of torch.optim."""
    import torch

    torch._fused_adam_(*args, **kwargs)


def foreach_copy_(targets: "list[torch.Tensor]", sources: "list[torch.Tensor]") -> None:
    """Copy a list of tensors into another one."""
    import torch

    torch._foreach_copy_(targets, sources)


def standard_gamma(concentration: "torch.Tensor", generator: "torch.Generator") -> "torch.Tensor":
    """Draw from gamma distributions of scale 1; torch.distributions takes no generator."""
    import torch

    return torch._standard_gamma(concentration, generator=generator)
