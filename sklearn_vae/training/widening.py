"""Models of whole rows that go on with rows of which cells are missing."""

import numpy as np

from sklearn_vae.models.vae import build
from sklearn_vae.networks import EncoderDecoderPair
from sklearn_vae.training.initialize import starts
from sklearn_vae.training.run import TrainingRun


def widen(run: TrainingRun, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give a model's encoder the inputs that say which cells of a row are observed.

    The weights of these inputs start at zero, so that of whole rows the model says what it
    said. Missing cells are filled, for the encoder alone, by a factor analysis of rows drawn
    from the model.

    Parameters
    ----------
    run : TrainingRun
        The wider architecture, and rows drawn from the model as its table.
    weights : dict of ndarray
        Parameters by name, with a member axis of length 1.

    Returns
    -------
    dict of ndarray
        Parameters of the wider architecture.

    Raises
    ------
    ValueError
        If the encoder is a module of the user's.
    """
    network, n_columns = run.architecture.network, run.architecture.n_columns
    if isinstance(network, EncoderDecoderPair) and network.custom_encoder is not None:
        raise ValueError(
            f"X has missing cells, and the fit that this one goes on from had none: the encoder "
            f"{network.custom_encoder.made_by!r} was made for whole rows. Fit rows with missing "
            f"cells first, or all rows at once."
        )
    model = build(run.architecture)
    model.initialize(0, starts(run.architecture.n_components)(run))
    wider = {}
    for name, value in model.weights().items():
        narrow = weights.get(name, value)
        for axis in np.flatnonzero(np.not_equal(narrow.shape, value.shape)):
            # the inputs are the columns, then what is observed, then the conditions
            narrow = np.insert(narrow, [n_columns] * n_columns, 0, axis=axis)
        wider[name] = narrow
    return wider
