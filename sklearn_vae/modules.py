"""A user's own modules as parameters: their arguments in a grid, and in a search's records."""

from collections import defaultdict
from typing import Any, Self

from sklearn_vae.networks import Own

# Parameters that may be a user's modules.
SIDES = ("encoder", "decoder")


class TakesModules:
    """An estimator whose ``encoder`` and ``decoder`` may be torch modules.

    Their arguments are parameters of the estimator, ``encoder__width`` for the argument
    ``width``, as those of the steps of a Pipeline are.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give the parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether the arguments of own modules are among them.

        Returns
        -------
        dict
            Values by name.
        """
        params = super().get_params(deep)  # type: ignore[misc]
        for side in SIDES if deep else ():
            if params.get(side) is not None:
                own = Own.of(params[side]).defaults()
                params.update({f"{side}__{name}": value for name, value in own.items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Parameters
        ----------
        **params
            Values by name, arguments of own modules as ``encoder__width``.

        Returns
        -------
        self : object
            The estimator.
        """
        arguments: dict[str, dict[str, Any]] = defaultdict(dict)
        for name in list(params):
            side, found, argument = name.partition("__")
            if found and side in SIDES:
                arguments[side][argument] = params.pop(name)
        super().set_params(**params)  # type: ignore[misc]
        for side, own in arguments.items():
            module = getattr(self, side)
            if module is None:
                raise ValueError(
                    f"Invalid parameter {side + '__' + next(iter(own))!r} for estimator {self}: "
                    f"{side}=None has no arguments. Set {side} to a module's class first."
                )
            setattr(self, side, Own.of(module).with_arguments(own))
        return self
