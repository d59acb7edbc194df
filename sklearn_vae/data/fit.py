"""Fit of a table encoder: the likelihood of each column, as requested or by evidence, and units."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sklearn_vae.data.columns.base import Columns
from sklearn_vae.data.columns.binary import (
    BinaryColumns,
    ConstantColumns,
    OneHotColumns,
    find_one_hot,
)
from sklearn_vae.data.columns.categories import CategoricalColumns, OrdinalColumns
from sklearn_vae.data.columns.numbers import (
    CountColumns,
    PointMassColumns,
    PositiveColumns,
    RealColumns,
)
from sklearn_vae.data.equal_cells import find_equal_cells
from sklearn_vae.data.fields import Field, Name, shorten, time_type
from sklearn_vae.data.find_linear_relations import find_linear_relations
from sklearn_vae.data.joint_evidence import find_curved, losses_of_counts, varying
from sklearn_vae.data.linear_relations import LinearRelation, all_sources
from sklearn_vae.data.marginals import Values, choose_marginal
from sklearn_vae.data.relations import (
    ROWS_PER_LABEL,
    ManyToOne,
    OneToOne,
    find_followers,
    find_many_to_one,
    find_one_to_one,
    find_orders,
    find_partial,
    first_of_copies,
)
from sklearn_vae.data.residuals import find_residuals
from sklearn_vae.data.table_encoder import TableEncoder
from sklearn_vae.data.training_column import MAX_COMPARED, ROUNDING, TrainingColumn
from sklearn_vae.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    LogNormal,
    OneHot,
    Ordinal,
    ZeroInflated,
)
from sklearn_vae.numerics.rows import repetitions, spread_out

# A smaller table does not show that a column can only have two values, unless they are 0 and 1.
MIN_ROWS_FOR_BINARY = 10

# Classes of columns by the class of their likelihood; one-hot columns are groups of binary ones.
COLUMNS: dict[type, type[Columns]] = {
    likelihood: columns
    for columns in (
        *(RealColumns, PositiveColumns, PointMassColumns, CountColumns),
        *(BinaryColumns, CategoricalColumns, OrdinalColumns, ConstantColumns),
    )
    for likelihood in columns.likelihoods
}
# A likelihood with its settings, or its class.
Request = Likelihood | type[Likelihood]


def fit_encoder(
    X: np.ndarray,
    sample_weight: np.ndarray | None,
    likelihood: object,
    fields: Sequence[Field] = (),
    *,
    is_plain: bool = False,
    period: int | None = None,
    allows_missing: bool = True,
) -> TableEncoder:
    """Choose the likelihood of each column of X (n, n_features), and fit its units.

    Numbers are finite or NaN, and categories are codes; ``fields`` are those of the columns, if
    they have any, and ``likelihood`` is the estimator's parameter. With ``is_plain``, numbers are
    standardized, and neither their distributions nor relations between columns are looked for.
    Every ``period``-th column has the same scale and categories, as pixels of one channel and time
    steps of one variable; these are plain, too. The model ``allows_missing`` values or not.
    """
    fields = fields or [Field(j, "number", None, str(X.dtype)) for j in range(X.shape[1])]
    names: list[Name] = [field.name for field in fields]
    requests = requested_likelihoods(likelihood, names)
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    is_plain = is_plain or period is not None
    # copies of all rows are no evidence
    if not is_plain and (times := repetitions(X, weight)) > 1:
        weight = sample_weight = weight / times
    n_rows = float(weight.sum())
    free = [j for j, requested in enumerate(requests) if requested is None and not is_plain]
    numbers = [j for j in free if fields[j].categories is None]
    groups_levels = period is None
    linear = find_linear_relations(X, numbers, weight)
    derived = {relation.derived for relation in linear}
    free, numbers = ([j for j in columns if j not in derived] for columns in (free, numbers))
    equal_cells = find_equal_cells(X, numbers, weight, linear)
    is_equal = {equal.column: equal.holds(X) for equal in equal_cells}
    columns: list[Columns] = []
    may_change: dict[int, TrainingColumn] = {}  # columns whose distribution others may decide
    for j, requested in enumerate(requests):
        if j in derived:
            columns.append(_derived_column(j, X))
            continue
        values = np.ascontiguousarray(X[:, j])  # a column of C-ordered rows is slow to read
        column = TrainingColumn(
            j, values, sample_weight, n_rows, fields[j], requested, groups_levels, is_equal.get(j)
        )
        if (missing := np.isnan(values)).any():
            column = column.select(~missing)
        fitted = fit_column(column, is_plain=is_plain)
        columns.append(fitted)
        has_scores = type(fitted) is RealColumns and fitted.has_knots[0]
        if j in free and (has_scores or isinstance(fitted, CountColumns)):
            may_change[j] = column
    for first in range(period or 0):
        alike = range(len(columns))[first::period]
        for kind in (RealColumns, PositiveColumns):  # logarithms have a scale of their own
            _share_scale([columns[j] for j in alike], kind)
        # the schema has given columns of its types their common categories
        _share_categories(columns, [j for j in alike if fields[j].categories is None])
    partners = {equal.partner for equal in equal_cells}
    others = [j for j in free if j not in is_equal.keys() | partners]
    pairs, labels = ([], []) if is_plain else _relations(columns, X, weight, others, linear)
    derived = {pair.derived for pair in pairs}
    counts = [j for j in may_change if isinstance(columns[j], CountColumns)]
    for j, loss in losses_of_counts(columns, X, weight, counts).items():
        columns[j] = fit_column(replace(may_change[j], loss_of_counts=loss))
    scored = [j for j in may_change if type(columns[j]) is RealColumns]
    scored = [j for j in scored if not Values.of(may_change[j]).has_far_values]
    for j in find_curved(columns, X, weight, scored):
        columns[j] = fit_column(may_change[j], is_plain=True)
    numbers = [j for j in numbers if j not in derived]
    ratios = [{*each.sources} for each in linear if each.is_log and {*each.coefficients} == {-1, 1}]
    encoder = TableEncoder(
        names,
        groups=_group(columns, X, weight, free),
        log_unseen=-float(np.log(n_rows + 2)),
        allows_missing=allows_missing,
        one_to_one=pairs,
        linear_relations=linear,
        equal_cells=equal_cells,
        orders=find_orders(X, numbers, [time_type(fields[j].dtype) for j in numbers], ratios),
    )
    # a column of a one-hot class is no code: another one of its group would have to change, too
    in_group = encoder.mask(OneHotColumns)
    encoder.many_to_one = [each for each in labels if not (each.is_partial and in_group[each.code])]
    rows, inputs = spread_out(len(X)), encoder.inputs_of_numbers
    inputs = inputs[np.isin(encoder.column_of_input[inputs], numbers)]
    residuals = find_residuals(encoder.transform(X[rows]), inputs, weight[rows])
    return replace(encoder, residuals=residuals)


def check_requested_likelihoods(encoder: TableEncoder, likelihood: object) -> None:
    """Refuse a parameter that requests other likelihoods than the fitted ones."""
    requests = requested_likelihoods(likelihood, encoder.names)
    for name, requested, fitted in zip(encoder.names, requests, encoder.likelihoods, strict=True):
        is_binary = isinstance(fitted, Bernoulli) and requested in (Categorical, Ordinal)
        if fitted is None or is_binary or requested in (None, fitted, type(fitted)):
            continue
        got = requested.__name__ if isinstance(requested, type) else repr(requested)
        raise ValueError(
            f"The 'likelihood' parameter must be {fitted} or 'auto' for column {name!r}, as "
            f"in the fit that this one goes on from. Got {got} instead."
        )


# -- one column ----------------------------------------------------------------------------


def requested_likelihoods(likelihood: object, names: Sequence[Name]) -> list[Request | None]:
    """Split the parameter ``likelihood`` by column: a class, an object, or None for "auto"."""
    if isinstance(likelihood, Mapping):
        for key in likelihood:
            if not (key in names or key in range(len(names))):
                raise ValueError(
                    f"The 'likelihood' parameter names {key!r}, which is no column of X; its "
                    f"columns are {shorten(names)}."
                )
        # a number that names a column is not the index of another one
        by_index = {key: value for key, value in likelihood.items() if key not in names}
        likelihood = [likelihood.get(name, by_index.get(j, "auto")) for j, name in enumerate(names)]
    if isinstance(likelihood, Sequence) and not isinstance(likelihood, str):
        if len(likelihood) != len(names):
            raise ValueError(
                f"The 'likelihood' parameter is a list of {len(likelihood)}, but X has "
                f"{len(names)} columns; give one likelihood per column."
            )
        pairs = zip(likelihood, names, strict=True)
        return [_requested(one, f" for column {name!r}") for one, name in pairs]
    return [_requested(likelihood)] * len(names)


def _requested(likelihood: object, where: str = "") -> Request | None:
    if isinstance(likelihood, Likelihood):
        return likelihood
    if isinstance(likelihood, str) and likelihood in ("auto", *LIKELIHOODS):
        return LIKELIHOODS.get(likelihood)
    raise ValueError(
        f"The 'likelihood' parameter must be 'auto', one of {sorted(LIKELIHOODS)}, a likelihood "
        f"such as Gaussian(scale='per_column'), or a list or dict of these by column. Got "
        f"{likelihood!r}{where} instead."
    )


def _likelihood_as_requested(column: TrainingColumn) -> Likelihood | None:
    """Return the requested likelihood, with the sizes of the column; refuse a contradiction."""
    requested = column.requested
    likelihood = requested if isinstance(requested, type) else type(requested)
    if likelihood not in COLUMNS:
        reason = "no class of columns in sklearn_vae.data.fit.COLUMNS encodes values for it"
        if likelihood is OneHot:
            reason = "it cannot be requested: fit finds columns of which it is the likelihood"
        raise ValueError(
            f"The 'likelihood' parameter has {likelihood.__name__} for column "
            f"{column.field.name!r}, and {reason}."
        )
    columns = COLUMNS[likelihood]
    contradiction, field = columns.contradiction(column), column.field
    is_nominal = field.logical_type == "category" and len(field.categories or ()) > 2
    if is_nominal and not issubclass(likelihood, Bernoulli | Categorical | Ordinal):
        contradiction = "numbers", "categories without an order"
    if contradiction:
        name = next(name for name, cls in LIKELIHOODS.items() if cls is likelihood)
        may_be_normal = not (is_nominal or issubclass(likelihood, Gaussian))
        alternative = "'gaussian' or 'auto'" if may_be_normal else "'auto'"
        raise ValueError(
            f"likelihood={name!r} needs column {field.name!r} to have {contradiction[0]}, "
            f"but it has {contradiction[1]}; use {alternative} for it."
        )
    return columns.resolve(column)


def fit_column(column: TrainingColumn, *, is_plain: bool = False) -> Columns:
    """Fit a column with the requested likelihood, or one by evidence; plain ones are Gaussian."""
    values, field = column.values, column.field
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    is_one_of_two = (values == low) | (values == high)
    has_rows = round(column.n_rows) >= MIN_ROWS_FOR_BINARY or (low == 0 and high == 1)
    with np.errstate(over="ignore"):
        is_constant = high - low <= ROUNDING * max(abs(low), abs(high))
    likelihood: Likelihood | None
    if is_constant:
        likelihood = None
    elif column.requested is not None:
        likelihood = _likelihood_as_requested(column)
    elif field.categories is not None:
        classes = OrdinalColumns if field.logical_type == "ordered" else CategoricalColumns
        likelihood = classes.resolve(column)
    elif has_rows and is_one_of_two.all():
        likelihood = Bernoulli()
    elif is_plain:
        likelihood = Gaussian()
    else:
        marginal = choose_marginal(column)
        column = replace(column, marginal=marginal)
        likelihood = marginal.counts or (LogNormal() if marginal.is_log else Gaussian())
        if n_masses := len(marginal.point_masses) + (column.is_equal is not None):
            likelihood = ZeroInflated(n_masses)
    return COLUMNS[type(likelihood)].fit(column, likelihood)


# -- columns together ------------------------------------------------------------------------


def _share_scale(columns: list[Columns], kind: type[RealColumns]) -> None:
    """Give columns of a kind their common mean and scale, in place.

    All their values together have mean 0 and variance 1.
    """
    alike = [column for column in columns if isinstance(column, kind) and type(column) is kind]
    if not alike:
        return
    exponent = np.max([column.exponent for column in alike])
    means = np.concatenate([np.ldexp(column.shift, column.exponent - exponent) for column in alike])
    scales = np.concatenate(
        [np.ldexp(column.scale, column.exponent - exponent) for column in alike]
    )
    scale = np.sqrt(np.mean(np.square(scales) + np.square(means - means.mean())))
    for column in alike:
        column.exponent, column.shift = np.array([exponent]), np.array([means.mean()])
        column.scale = np.array([scale])


def _share_categories(columns: list[Columns], indices: list[int]) -> None:
    """Give categorical columns, and binary ones beside them, the categories of all, in place."""
    categories = {
        j: column.categories.ravel()
        for j in indices
        if type(column := columns[j]) is CategoricalColumns or type(column) is BinaryColumns
    }
    if all(type(columns[j]) is BinaryColumns for j in categories):
        return
    shared = np.unique(np.concatenate([*categories.values()]))
    for j in categories:
        likelihood = Categorical(len(shared))
        columns[j] = CategoricalColumns(np.array([j]), likelihood, shared[None], [None])


def _relations(
    columns: list[Columns],
    X: np.ndarray,
    weight: np.ndarray,
    others: list[int],
    linear: list[LinearRelation],
) -> tuple[list[OneToOne], list[ManyToOne]]:
    """Find columns that follow from other ones, of classes or numbers, or from totals.

    Those of ``others`` that are one-to-one with one are replaced by constants, in place. No
    column follows from a total that it is a part of.
    """
    types = BinaryColumns, CategoricalColumns, OrdinalColumns
    classes = np.flatnonzero([type(column) in types for column in columns])
    labels = varying(columns, np.union1d(classes, np.array(others, dtype=int)))
    # a label does not follow from a code that is the same where it is lowest and highest
    low, high = (np.array([f(X[:, j]) for j in labels], int) for f in (np.nanargmin, np.nanargmax))
    followers = [
        find_followers(X, j, labels[(labels != j) & (X[low, j] != X[high, j])], weight)
        for j in classes.tolist()
    ]
    pairs = find_one_to_one(X, followers, others)
    for pair in pairs:
        columns[pair.derived] = _derived_column(pair.derived, X)
    labels = varying(columns, labels)
    parts = all_sources(linear)
    numbers = np.union1d(np.setdiff1d(labels, classes), np.array([*parts], dtype=int))
    if 0 < len(numbers) <= MAX_COMPARED:
        max_labels = weight.sum() / ROWS_PER_LABEL
        has_few = np.array([len(np.unique(X[:, j])) <= max_labels for j in labels], bool)
        is_first = first_of_copies(X)
        for j in numbers.tolist():
            is_free = has_few & ~np.isin(labels, [j, *parts.get(j, ())])
            followers.append(find_followers(X, j, labels[is_free], weight, is_first))
    complete = find_many_to_one(followers, np.union1d(labels, numbers))

    def has_probability(column: int, values: np.ndarray) -> np.ndarray:
        numbers = columns[column]
        if isinstance(numbers, PointMassColumns):
            return np.isin(values, numbers.point_masses)
        return np.full(len(values), not isinstance(numbers, RealColumns))

    partial = find_partial(X, labels, classes, weight, complete, has_probability)
    return pairs, [*complete, *partial]


def _derived_column(j: int, X: np.ndarray) -> Columns:
    """Return a column whose value is 0 where it follows from others."""
    return ConstantColumns(np.array([j]), None, np.zeros((1, 1), X.dtype))


def _group(
    columns: list[Columns], X: np.ndarray, weight: np.ndarray, free: list[int]
) -> list[Columns]:
    """Join binary columns that exclude each other, and then all columns of one likelihood.

    Groups are in the order of their first columns, but those that are encoded alike are adjacent;
    constants come last.
    """
    binary = [each for j in free if type(each := columns[j]) is BinaryColumns]
    one_hot = find_one_hot(X, binary, weight)
    joined = {j for group in one_hot for j in group.indices.tolist()}
    parts = [*(column for j, column in enumerate(columns) if j not in joined), *one_hot]
    parts.sort(key=lambda part: (part.likelihood is None, part.indices.min()))
    by_likelihood: dict[Likelihood | None, list[Columns]] = {}
    for part in parts:
        by_likelihood.setdefault(part.likelihood, []).append(part)
    groups = [type(group[0]).concatenate(group) for group in by_likelihood.values()]
    encoded = [part.encoded_likelihood for part in parts]
    return sorted(groups, key=lambda group: encoded.index(group.encoded_likelihood))
