"""Plots that survive a projector, and that those who can't see them, or no colours, can follow.

Each function draws, and returns axes or a figure, to which a notebook may add; show() then puts it into the notebook.
"""

import io
from dataclasses import dataclass

from support.packages import packages_needed

with packages_needed():
    import matplotlib.pyplot as plt
    import numpy as np
    from IPython.display import Image, display
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch, Rectangle

# Okabe and Ito's colours: told apart by the colour-blind too. No plot relies on colour alone.
BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#999999"

plt.rcParams.update({
    "figure.figsize": (9, 4),
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.12,  # inches
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 13,
    "axes.titlesize": 15,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "lines.linewidth": 2,
    "hatch.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
})  # fmt: skip


def show(drawn: Axes | Figure, alt: str):
    """Show a figure, or the figure of these axes, in the notebook; `alt` says what is in it to those who can't see it.

    It is kept with the picture. `jupyter nbconvert --to html --template classic` makes it the alternative text of the
    page's picture; nbconvert's other templates leave it out as yet.
    """
    picture = io.BytesIO()
    drawn.figure.savefig(picture, format="png")
    plt.close(drawn.figure)  # or Jupyter would show it once more, without its text
    display(Image(picture.getvalue(), alt=alt))


def timeline(clients, title: str) -> Axes:
    """Draw a bar for each Visit: grey and hatched while it waits its turn, blue while it is served; return the axes."""
    _, axes = plt.subplots()
    for client in clients:
        wait = {"color": "white", "edgecolor": GREY, "hatch": "////"}
        axes.barh(client.name, client.served - client.came, left=client.came, height=0.6, **wait)
        axes.barh(client.name, client.answered - client.served, left=client.served, height=0.6, color=BLUE)
        dot = {"marker": "o", "markersize": 9, "color": VERMILION, "markeredgecolor": BLACK, "ls": ""}
        axes.plot([client.connected], [client.name], **dot, clip_on=False, zorder=5)
        axes.annotate(
            f"{client.answered:.2f} s", (client.answered, client.name), (6, 0), textcoords="offset points", va="center"
        )
    legend = [
        Patch(facecolor="white", edgecolor=GREY, hatch="////", label="waits in line"),
        Patch(color=BLUE, label="is being served"),
        Line2D([], [], **dot, label="is connected"),
    ]
    axes.figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)
    axes.set(title=title, xlabel="time since the first client came (s)", ylabel="")
    axes.set_xlim(0, 1.15 * max(client.answered for client in clients))
    axes.invert_yaxis()  # the first client on top
    axes.grid(axis="y", visible=False)
    return axes


MARKERS = {  # events -> marker and colour; combinations beside these get a star
    ("EPOLLIN",): ("o", BLUE),
    ("EPOLLOUT",): ("^", GREEN),
    ("EPOLLIN", "EPOLLOUT"): ("D", SKY_BLUE),
    ("EPOLLIN", "EPOLLRDHUP"): ("s", ORANGE),
    ("EPOLLIN", "EPOLLOUT", "EPOLLRDHUP"): ("P", VERMILION),
}


def draw_wakeups(found, title: str) -> Axes:
    """Draw Wakeups in time, a line for each socket, with the bytes read above the markers; return the axes.

    Where markers of one socket are too close for a label each, they share one: 4,096 + 904.
    """
    _, axes = plt.subplots()
    sockets = list(dict.fromkeys(wakeup.socket for wakeup in found))
    start = found[0].time
    close = 0.02 * (found[-1].time - start)
    kinds, labels = {}, {}
    for wakeup in found:
        marker, colour = MARKERS.get(wakeup.events, ("*", PURPLE))
        point = (1000 * (wakeup.time - start), sockets.index(wakeup.socket))
        style = {"marker": marker, "color": colour, "markeredgecolor": BLACK, "markersize": 11, "ls": ""}
        axes.plot(*point, **style)
        kinds[wakeup.events] = Line2D([], [], **style, label=" + ".join(wakeup.events))
        if wakeup.received is not None:
            latest = labels.get(wakeup.socket)
            if latest and wakeup.time - latest.time < close:
                latest.set_text(f"{latest.get_text()} + {wakeup.received:,}")
            else:
                label = f"{wakeup.received:,}"
                latest = axes.annotate(label, point, (0, 9), textcoords="offset points", ha="center", fontsize=12)
            latest.time = wakeup.time
            labels[wakeup.socket] = latest
    axes.figure.legend(handles=list(kinds.values()), loc="outside lower center", ncols=3, frameon=False)
    axes.set(title=title, xlabel="time since the first wake-up (ms)", ylabel="")
    axes.set_yticks(range(len(sockets)), sockets)
    axes.set_ylim(len(sockets) - 0.5, -0.8)
    axes.margins(x=0.06)
    return axes


ARRIVED, LOST = BLUE, YELLOW


def draw_maps(maps: dict, total: int, title: str) -> list[Axes]:
    """Draw 100 x 100 cells for each part's answer of `total` bytes, dark where its bytes arrived; return the axes.

    `maps` holds, for each name, the arrived runs of bytes as pairs of position and length.
    """
    cell = total // 10_000  # bytes
    figure, axes = plt.subplots(1, len(maps), figsize=(5.4 * len(maps), 6), squeeze=False)
    colours = LinearSegmentedColormap.from_list("arrived", [LOST, ARRIVED])
    for panel, (name, runs) in zip(axes[0], maps.items(), strict=True):
        arrived = np.zeros(total, bool)
        for position, length in runs:
            arrived[position : position + length] = True
        share = arrived[: cell * 10_000].reshape(100, 100, cell).mean(axis=2)
        box = (0, cell * 100 / 1000, total / 1e6, 0)  # the first byte is at the top left
        panel.imshow(share, cmap=colours, vmin=0, vmax=1, extent=box, aspect="auto", interpolation="nearest")
        panel.set(title=name, xlabel="position in the row (kB)")
        panel.grid(visible=False)
    axes[0][0].set_ylabel("position of the row in the answer (MB)")
    legend = [
        Patch(facecolor=ARRIVED, edgecolor=BLACK, label="arrived"),
        Patch(facecolor=LOST, edgecolor=BLACK, label="never arrived"),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title, fontsize=15)
    return axes[0]


def draw_stalls(axes: Axes, stalls) -> Patch:
    """Shade the times in which the client does not read; return a handle for the legend."""
    for begin, end in stalls:
        axes.axvspan(begin, end, facecolor="#eeeeee", edgecolor=GREY, hatch="..", linewidth=0, zorder=0)
    return Patch(facecolor="#eeeeee", edgecolor=GREY, hatch="..", linewidth=0, label="the client does not read")


FIELD_COLOURS = ["#dddddd", SKY_BLUE, "#f6e3b4", "#cfe8df", "#e9d0e0", "#cfe2f3", ORANGE, YELLOW, "#f2f2f2"]


def draw_bytes(axes: Axes, data: bytes, fields, columns: int = 32, as_text=(), colours=FIELD_COLOURS) -> list[Patch]:
    """Draw bytes as a grid, with a colour for each field, and its number where it begins; return handles for a legend.

    `fields` are a label, the first byte, and the one behind the field. Those whose labels are in `as_text` show
    characters, the others hexadecimal numbers.
    """
    handles = []
    for number, (label, start, end) in enumerate(fields, 1):
        colour = colours[(number - 1) % len(colours)]
        for place in range(start, end):
            row, column = divmod(place, columns)
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.5))
            text = f"{data[place]:02x}"
            if label in as_text:
                text = {13: "\\r", 10: "\\n", 32: "\u2423"}.get(data[place], chr(data[place]))
            weight = "bold" if label in as_text else "normal"
            axes.text(
                column + 0.5, row + 0.55, text, ha="center", va="center", fontsize=9, family="monospace", weight=weight
            )
        row, column = divmod(start, columns)
        axes.plot([column, column], [row, row + 1], color=BLACK, linewidth=2)
        axes.text(column + 0.06, row + 0.02, number, fontsize=7, va="top", weight="bold", color=VERMILION)
        handles.append(Patch(facecolor=colour, edgecolor=GREY, label=f"{number}  {label}"))
    axes.set(xlim=(0, columns), ylim=((len(data) - 1) // columns + 1, 0), aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([row + 0.5 for row in range(0, (len(data) - 1) // columns + 1, 2)])
    axes.set_yticklabels([str(row * columns) for row in range(0, (len(data) - 1) // columns + 1, 2)])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return handles


@dataclass
class Arrival:
    """How a ClientHello was sent, and what became of it; places are counted in bytes."""

    label: str
    length: int
    cuts: list  # where one piece ended and the next began
    headers: list  # where further records begin
    name: list  # pairs: where (a part of) the name begins, and what is behind it
    chosen: int  # how much had come when the backend was chosen


def draw_arrivals(arrivals: list[Arrival], title: str) -> Axes:
    """Draw a bar for each Arrival: its pieces, where the name is in it, and when the backend was chosen."""
    _, axes = plt.subplots(figsize=(10, 4.6))
    for row, arrival in enumerate(arrivals):
        axes.barh(row, arrival.length, height=0.5, color="#e6e6e6", edgecolor=BLACK, linewidth=1)
        for start, end in arrival.name:
            axes.barh(row, end - start, left=start, height=0.5, color=YELLOW, edgecolor=BLACK, linewidth=1)
        axes.vlines(arrival.cuts, row - 0.33, row + 0.33, color=BLACK, linewidth=1.5)
        axes.plot(arrival.headers, [row] * len(arrival.headers), "v", color=VERMILION, markeredgecolor=BLACK)
        axes.plot(
            [arrival.chosen], [row], "*", color=BLUE, markeredgecolor=BLACK, markersize=18, clip_on=False, zorder=5
        )
    marker = {"ls": "", "markeredgecolor": BLACK}
    legend = [
        Patch(facecolor="#e6e6e6", edgecolor=BLACK, label="other bytes"),
        Patch(facecolor=YELLOW, edgecolor=BLACK, label="the name"),
        Line2D([], [], marker="|", color=BLACK, markersize=16, ls="", label="a piece ends"),
        Line2D([], [], marker="v", color=VERMILION, label="header of a second record", **marker),
        Line2D([], [], marker="*", color=BLUE, markersize=16, label="the backend is chosen", **marker),
    ]
    axes.figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)
    axes.set_yticks(range(len(arrivals)), [arrival.label for arrival in arrivals])
    axes.set(title=title, xlabel="bytes that have come")
    axes.set_xlim(0, 1.03 * max(arrival.length for arrival in arrivals))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    return axes
