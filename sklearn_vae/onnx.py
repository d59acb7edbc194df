"""Export of encoder and decoder to ONNX, with inputs and outputs in X's units.

Scaling is computed in double precision, the networks in single precision.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import DTypeLike
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_vae.data.columns.binary import BinaryColumns
from sklearn_vae.data.columns.numbers import TAIL, RealColumns
from sklearn_vae.estimators.checks import check_not_autoregressive
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.inference.decoder_correction import correction_at
from sklearn_vae.inference.predictor import Predictor
from sklearn_vae.likelihoods import Bernoulli, Gaussian

if TYPE_CHECKING:
    from onnx import ModelProto

# Standardized values are clipped here, so that their squares are finite in single precision.
MAX_VALUE = 1e14


class Part(nn.Module):
    """Part of a model, whose inputs and outputs are in X's units and in one dtype."""

    def __init__(self, fitted: Predictor):
        super().__init__()
        columns = fitted.columns
        likelihoods = {type(likelihood) for likelihood in columns.likelihoods} - {type(None)}
        is_bent = any(
            isinstance(group, RealColumns) and group.has_knots.any() for group in columns.groups
        )
        if (
            likelihoods - {Gaussian, Bernoulli}
            or is_bent
            or columns.derivations
            or columns.residuals
        ):
            raise ValueError(
                "to_onnx supports normal, binary and constant columns, without normal scores and "
                "none derived from another. Fit numbers with likelihood='gaussian', and one-hot "
                "columns with 'bernoulli'."
            )
        if columns.has_missing:
            raise ValueError(
                "to_onnx supports rows without missing values, and the model was fitted to rows "
                "with missing values."
            )
        exponent, shift, scale = units = np.empty((3, columns.n_features))
        for group in columns.groups:
            if isinstance(group, RealColumns):
                units[:, group.indices] = group.exponent, group.shift, group.scale
            elif isinstance(group, BinaryColumns):
                units[:, group.indices] = group.units()
        half = exponent // 2  # 2 to the whole exponent could overflow
        self.divide = torch.as_tensor(np.exp2([-half, half - exponent]))
        self.multiply = torch.as_tensor(np.exp2([half, exponent - half]))
        self.shift, self.scale = torch.as_tensor(shift), torch.as_tensor(scale)
        self.order = torch.as_tensor(np.array(columns.order))
        self.is_binary = torch.as_tensor(columns.mask(BinaryColumns))
        # index of each column of X among the model's columns, followed by the constant ones
        order = np.argsort([*columns.order, *np.flatnonzero(columns.is_constant)])
        self.inverse_order = torch.as_tensor(order)
        self.n_constant = int(columns.is_constant.sum())
        self.model = fitted.first_member.build_module(np.dtype(np.float32))

    def encode(self, X: Tensor) -> Tensor:
        """Rows in the model's units and single precision: (n, n_features) -> (1, n, n_columns)."""
        values = X.double() * self.divide[0] * self.divide[1]  # by two to the column's exponent
        values = (values - self.shift) / self.scale
        excess = (values.abs() - TAIL).clamp(min=0)
        values = values.clamp(-TAIL, TAIL) + values.sign() * excess.log1p()
        values = torch.where(self.is_binary, (values > 0.5).double(), values)
        return values.index_select(1, self.order).clamp(-MAX_VALUE, MAX_VALUE).float()[None]

    def decode(self, values: Tensor) -> Tensor:
        """Rows in X's units: (n, n_columns) -> (n, n_features)."""
        zeros = values.new_zeros(1, self.n_constant).expand(values.shape[0], -1)
        values = torch.cat([values, zeros], dim=1).index_select(1, self.inverse_order)
        excess = (values.abs() - TAIL).clamp(min=0)
        values = values.clamp(-TAIL, TAIL) + values.sign() * excess.expm1()
        return (values * self.scale + self.shift) * self.multiply[0] * self.multiply[1]


class Encoder(Part):
    """Encoder network, as ``transform``."""

    def forward(self, X: Tensor) -> Tensor:
        """(n, n_features) -> (n, n_components)."""
        codes = self.model.posterior.mean(self.model.encode(self.encode(X)))
        return codes[0].to(X.dtype)


class Decoder(Part):
    """Decoder network, as ``inverse_transform``."""

    def __init__(self, fitted: Predictor):
        super().__init__(fitted)
        self.correction = self.code_range = None
        if fitted.correction is not None:
            self.correction = torch.as_tensor(fitted.correction).double()
            self.code_range = torch.as_tensor(fitted.code_range).double()

    def forward(self, Z: Tensor) -> Tensor:
        """(n, n_components) -> (n, n_features)."""
        values, codes = self.model.reconstruct(Z.float()[None])[0].double(), Z.double()
        if self.correction is not None:
            values = values + correction_at(codes, self.correction, self.code_range)
        return self.decode(values).to(Z.dtype)


DTYPES = {"float64": torch.float64, "float32": torch.float32}
PARTS = {"encoder": Encoder, "decoder": Decoder}


def to_onnx(
    estimator: VAETransformer, part: str = "encoder", *, dtype: DTypeLike = np.float64
) -> "ModelProto":
    """Export a part of a fitted ``VAETransformer`` as an ONNX model.

    The scaling of columns is part of the model: inputs and outputs are in X's units. They agree
    with the estimator's methods to about 1e-4, as networks compute in single precision.

    Parameters
    ----------
    estimator : VAETransformer
        A fitted estimator of real, binary and constant columns.
    part : {"encoder", "decoder"}, default="encoder"
        ``transform`` or ``inverse_transform``.
    dtype : {numpy.float64, numpy.float32} or dtype-like, default=numpy.float64
        dtype of the input and of the output; an ONNX model takes one dtype only. Scaling is
        computed in double precision in both cases.

    Returns
    -------
    onnx.ModelProto
        Model with one input, ``X`` of shape (n_samples, n_features) or ``Z`` of shape
        (n_samples, n_components), and one output, both of dtype ``dtype``. The number of rows
        is dynamic, and at least 1.

    Raises
    ------
    ImportError
        If onnx or onnxscript is missing.
    ValueError
        If ``part`` or ``dtype`` is invalid, or if the model has other columns or conditions.
    NotFittedError
        If the estimator is not fitted.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {sorted(PARTS)}. Got {part!r} instead.")
    if not isinstance(estimator, VAETransformer):
        raise ValueError(f"estimator must be a VAETransformer. Got {estimator!r} instead.")
    check_is_fitted(estimator)
    check_not_autoregressive(estimator.architecture_.network, "to_onnx")
    try:
        example_dtype = DTYPES[np.dtype(dtype).name]
    except (TypeError, KeyError):
        raise ValueError(f"dtype must be float64 or float32. Got {dtype!r} instead.") from None
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "to_onnx needs onnx and onnxscript: pip install 'sklearn-vae[onnx]'"
        ) from error
    if estimator.condition_encoder_ is not None:
        raise ValueError(
            "to_onnx supports models of p(x), and this one was fitted with conditional=True."
        )
    fitted = estimator._predictor()
    if not fitted.architecture.has_density:
        raise ValueError(
            f"to_onnx supports Gaussian posteriors only, and the model has "
            f"{fitted.architecture.posterior!r}."
        )
    module = PARTS[part](fitted).cpu().eval()
    name, n_in = "X", estimator.n_features_in_
    if part == "decoder":
        name, n_in = "Z", fitted.architecture.n_components
    with _ignore_exporter_warnings(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (torch.zeros(3, n_in, dtype=example_dtype),),  # the model takes any number of rows
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n_samples")},),
            input_names=[name],
            output_names=[part],
            verbose=False,
        )
    return program.model_proto  # type: ignore[union-attr]


@contextmanager
def _ignore_exporter_warnings() -> Iterator[None]:
    """Silence PyTorch's ONNX exporter and its optimizer, whose warnings are about its internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
