"""Where a display draws: matplotlib, imported late, and axes that were given or are made."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = tuple[float, float]
# Names of columns have room side by side if they are short, slanted if they are few.
LONGEST_LEVEL, MOST_SLANTED, MOST_NAMED = 4, 20, 40


def check_matplotlib(display: type) -> None:
    """Say what to install where matplotlib is missing, before anything is computed."""
    try:
        import matplotlib  # noqa: F401, ICN001
    except ImportError as error:
        raise ImportError(
            f"{display.__name__} draws with matplotlib, which is not installed. "
            f"`pip install sklearn_vae[plot]` installs it."
        ) from error


def new_figure(display: object, size: Size) -> "Figure":
    """Make an empty figure of pyplot's, of so many inches."""
    check_matplotlib(type(display))
    from matplotlib import pyplot as plt

    return plt.figure(figsize=size, layout="constrained")


def axes_for(display: object, ax: "Axes | None", size: Size) -> "Axes":
    """Give the axes that were given, or those of a new figure of ``size`` inches."""
    return new_figure(display, size).add_subplot() if ax is None else check_axes(ax)


def check_axes(ax: Any) -> "Axes":
    """Refuse what cannot be drawn on."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib axes or None. Got {type(ax).__name__} instead.")
    return ax


def name_columns(ax: "Axes", names: list[str]) -> None:
    """Write columns' names below the axes, where there is room for them."""
    if len(names) > MOST_NAMED:
        ax.set_xlabel("column")
        return
    ax.set_xticks(range(len(names)), names)
    if len(names) > MOST_SLANTED:
        ax.tick_params("x", rotation=90)
    elif max(map(len, names)) > LONGEST_LEVEL:
        for label in ax.get_xticklabels():
            label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
