"""The style of figures: a color, dash and marker per strategy, distinguishable without color as well."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlmba.experiments.curves import Array, Group
from rlmba.experiments.palette import other_colour, strategy_colour
from rlmba.markup import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DASHES", "FORMATS", "canvas", "curve", "export", "finish", "key_line", "legend_text",
    "panels", "seeds_text", "strategy_styles", "tidy",
]  # fmt: skip

DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 4)))

FORMATS = ("png", "pdf", "svg")

_LINE = {"linewidth": 1.2, "markersize": 3.6, "zorder": 2}
_OURS = {"linewidth": 2.1, "markersize": 4.6, "zorder": 3}
_DENSE = (0, (3, 1, 1, 1, 1, 1))
# Fixed, so that a strategy looks the same in all figures of all reports.
_STRATEGIES: Mapping[str, dict[str, Any]] = {
    "rlmba": {"linestyle": "-", "marker": "o", **_OURS},
    "rlmba-x": {"linestyle": "-", "marker": "s", **_OURS},
    "rlmba-h": {"linestyle": "-", "marker": "^", **_OURS},
    "rlmba-evidential": {"linestyle": "-", "marker": "D", **_OURS},
    "random": {"linestyle": (0, (6, 2)), "marker": "x", **_LINE},
    "entropy": {"linestyle": ":", "marker": "v", **_LINE},
    "margin": {"linestyle": ":", "marker": "^", **_LINE},
    "gcnal": {"linestyle": "-.", "marker": "P", **_LINE},
    "coreset": {"linestyle": "-.", "marker": "p", **_LINE},
    "deepfool": {"linestyle": _DENSE, "marker": "<", **_LINE},
    "bald": {"linestyle": _DENSE, "marker": ">", **_LINE},
    "badge": {"linestyle": "--", "marker": "D", **_LINE},
    "bmmal": {"linestyle": "--", "marker": "h", **_LINE},
    "maxherding": {"linestyle": ":", "marker": "X", **_LINE},
    "uherding": {"linestyle": "--", "marker": "X", **_LINE},
    "typiclust": {"linestyle": "-.", "marker": "d", **_LINE},
    "tcm": {"linestyle": "--", "marker": "d", **_LINE},
    "probcover": {"linestyle": ":", "marker": "8", **_LINE},
    "dropquery": {"linestyle": "-.", "marker": "1", **_LINE},
    "alfa-mix": {"linestyle": ":", "marker": "2", **_LINE},
    "galaxy": {"linestyle": "-.", "marker": "*", **_LINE},
    "amcb-only": {"linestyle": "-.", "marker": "^", **_LINE},
    "efda-only": {"linestyle": _DENSE, "marker": "v", **_LINE},
    "no-diversity": {"linestyle": (0, (8, 2)), "marker": "<", **_LINE},
    "greedy": {"linestyle": ":", "marker": ">", **_LINE},
    "uniform-draw": {"linestyle": "--", "marker": "*", **_LINE},
    "absolute": {"linestyle": "-", "marker": "o", **_LINE},
    "incremental": {"linestyle": "--", "marker": "^", **_LINE},
    "relative": {"linestyle": "-.", "marker": "s", **_LINE},
}
_MARKERS = "*dX8H1234+"
# Curves with more points have markers only at some of them.
_MARKED = 12
# Half the height of the axes of a single round, at least: five points of accuracy.
_LEAST_HEIGHT = 0.05


def strategy_styles(
    names: Iterable[str], strategy_of: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """Assign a style to each name: that of a known strategy, or the next of the others.

    ``strategy_of`` gives the strategies of numbered variants, such as "rlmba" of "rlmba [1]". A variant
    has its strategy's color, with the next dash and marker of the others.
    """
    styles: dict[str, dict[str, Any]] = {}
    colours: dict[str, str] = {}
    others = 0
    for name in names:
        if name in _STRATEGIES:
            styles[name] = {"color": strategy_colour(name), **_STRATEGIES[name]}
        else:
            strategy = (strategy_of or {}).get(name, name)
            if strategy not in colours:
                unknown = len(colours.keys() - _STRATEGIES.keys())
                colours[strategy] = strategy_colour(strategy) or other_colour(unknown)
            styles[name] = {
                "color": colours[strategy],
                "linestyle": DASHES[others % len(DASHES)],
                "marker": _MARKERS[others % len(_MARKERS)],
                **_LINE,
            }
            others += 1
    return styles


def canvas(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches, without a display and without global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    return figure


def panels(
    n: int, *, columns: int, ylabel: str, share_y: bool, legend_width: float = 2.4
) -> tuple[Figure, list[Axes]]:
    """Make a figure with n panels against labels, and space for a legend on the right."""
    across = min(n, columns)
    down = -(-n // across)
    figure = canvas(3.9 * across + legend_width, 3.2 * down + 0.7)
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=share_y)
    flat = list(axes.ravel())
    for unused in flat[n:]:
        unused.remove()
    for i, axis in enumerate(flat[:n]):
        tidy(axis)
        if i % across == 0:
            axis.set_ylabel(ylabel)
        if i + across >= n:
            axis.set_xlabel("labeled samples")
            axis.tick_params(labelbottom=True)
    return figure, flat[:n]


def tidy(axis: Axes) -> None:
    """Give axes a light grid and remove the box."""
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.xaxis.label.set_fontsize(9)
    axis.yaxis.label.set_fontsize(9)


def curve(axis: Axes, labels: Any, values: Array, *, band: float = 0.15, **style: Any) -> None:
    """Draw the mean over seeds against labels, with ± 1 s.d. as a band, where all seeds have figures."""
    known = ~np.isnan(values).any(axis=0)
    if not known.any():
        return
    x, y = labels[known], values[:, known]
    mean = y.mean(axis=0)
    if len(x) == 1:
        style = {"marker": "o", **style}
    every = max(1, -(-len(x) // _MARKED))
    axis.plot(x, mean, markevery=every, **style)
    if len(y) > 1 and band:
        sd = y.std(axis=0, ddof=1)
        axis.fill_between(
            x, mean - sd, mean + sd, color=style["color"], alpha=band, linewidth=0, zorder=1
        )
    _fit_axes(axis)


def _fit_axes(axis: Axes) -> None:
    """Whole numbers of labels; if there is only one, limits that show a point, not rounding errors."""
    from matplotlib.ticker import MaxNLocator
    from matplotlib.transforms import Bbox

    drawn = axis.dataLim
    together = Bbox.union(
        [a.dataLim for a in axis.get_shared_x_axes().get_siblings(axis) if a.lines]
    )
    if together.width > 0:
        axis.autoscale(True)
        axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))
        return
    axis.set_xticks([drawn.x0])
    axis.set_xlim(drawn.x0 - max(1, drawn.x0 / 2), drawn.x0 + max(1, drawn.x0 / 2))
    middle, reach = (drawn.y0 + drawn.y1) / 2, max(drawn.height, _LEAST_HEIGHT)
    axis.set_ylim(middle - reach, middle + reach)


def key_line(label: str, **style: Any) -> Any:
    """Make a legend entry."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=legend_text(label), **style)


def legend_text(name: str) -> str:
    """Make a name visible in a legend: matplotlib omits entries that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def finish(figure: Figure, title: str, handles: Sequence[Any]) -> None:
    """Set the title and the legend, which lies outside the axes, where it never covers data."""
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    if handles:
        figure.legend(
            handles=handles, loc="outside right center", frameon=False, fontsize=8,
            labelspacing=0.9, handlelength=3.4,
        )  # fmt: skip


def export(figure: Figure, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Return a figure's files by format, without dates and random ids, so that they are reproducible."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    # The canvases are used directly, because savefig would draw once more for each format. PNG comes
    # first, because the others change the resolution.
    canvases: Mapping[str, tuple[Any, str, dict[str, Any]]] = {
        "png": (FigureCanvasAgg, "print_png", {"Software": None}),
        "pdf": (FigureCanvasPdf, "print_pdf", {"CreationDate": None, "Creator": None}),
        "svg": (FigureCanvasSVG, "print_svg", {"Date": None, "Creator": None}),
    }
    _as_it_is(figure)
    files = {}
    with mpl.rc_context({"svg.hashsalt": "rlmba", "pdf.fonttype": 42}):
        # The layout is computed only once for all formats.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for kind in sorted(formats, key=FORMATS.index):
            kind_of_canvas, method, metadata = canvases[kind]
            out = io.BytesIO()
            getattr(kind_of_canvas(figure), method)(out, metadata=metadata)
            files[kind] = out.getvalue()
    return files


def _as_it_is(figure: Figure) -> None:
    """Draw all text literally: without formulas, and with control characters escaped."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text():
            text.set_parse_math(False)
            text.set_text(visible(text.get_text()))


def seeds_text(group: Group) -> str:
    """The number of seeds of a group, in words."""
    return f"{len(group.seeds)} seed{'s' * (len(group.seeds) != 1)}"
