"""Where a display draws: matplotlib, imported late, and axes that were given or are made."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Size = tuple[float, float]


def check_matplotlib(display: type) -> None:
    """Say what to install where matplotlib is missing, before anything is computed."""
    try:
        import matplotlib  # noqa: F401, ICN001
    except ImportError as error:
        raise ImportError(
            f"{display.__name__} draws with matplotlib, which is not installed. "
            f"`pip install sklearn_vae[plot]` installs it."
        ) from error


def axes_for(display: object, ax: "Axes | None", size: Size | None = None) -> "Axes":
    """The axes that were given, or those of a new figure of ``size`` inches."""
    check_matplotlib(type(display))
    from matplotlib import pyplot as plt

    if ax is None:
        return plt.figure(figsize=size, layout="constrained").add_subplot()
    return check_axes(ax)


def check_axes(ax: Any) -> "Axes":
    """Refuse what cannot be drawn on."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib axes or None. Got {type(ax).__name__} instead.")
    return ax


def name_columns(ax: "Axes", names: list[str]) -> None:
    """Write columns' names below the axes, where there is room for them."""
    most_named, longest_level = 40, 4
    if len(names) > most_named:
        ax.set_xlabel("column")
        return
    is_level = sum(map(len, names)) <= longest_level * len(names)
    ax.set_xticks(range(len(names)), names)
    if not is_level:
        ax.tick_params("x", rotation=45 if len(names) <= most_named / 2 else 90)
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("right" if len(names) <= most_named / 2 else "center")
            label.set_rotation_mode("anchor" if len(names) <= most_named / 2 else "default")
