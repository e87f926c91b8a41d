"""The gradient flow of several decoders as pictures, from the tables of `captioner diagnose gradients` to PNGs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes  # only the extra `train` brings it
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

Row = dict[str, str]
Model = tuple[str, str, str]  # name, cell, number of layers

LAST_WORD, SENTENCE = "last word", "sentence"
_STYLES = {"hidden": "-", "memory": "--"}
_LAYERS = ("-", "--", ":", "-.")
_GATES = ("hidden", "reset", "update", "new", "input", "forget", "cell", "output")
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_PANEL = (3.3, 2.6)  # inches
_RESOLUTION = 80  # dots an inch


def draw_gradients(folder: Path) -> list[Path]:
    """Draw gradients.csv and matrices.csv of `folder` into PNGs beside them; returns what was drawn.

    A curve needs two steps; what is exactly 0 has no place on an axis of powers of ten and is left out.
    """
    points, matrices = _rows(folder / "gradients.csv"), _rows(folder / "matrices.csv")
    plain = [row for row in points if not row["radius"]]
    drawn = [
        _last_word(plain, folder / "last_word.png"),
        _sentence(plain, folder / "sentence.png"),
        _matrices([row for row in matrices if not row["radius"]], folder / "matrices.png"),
    ]
    scaled = [row for row in points if row["radius"]]
    if scaled:
        drawn.append(_radius(scaled, folder / "radius.png"))
    return drawn


def _rows(table: Path) -> list[Row]:
    with table.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _last_word(rows: Sequence[Row], file: Path) -> Path:
    def panel(axes: Axes, own: Sequence[Row]) -> None:
        _states(axes, [row for row in own if row["loss"] == LAST_WORD])

    title = "How far back the last word reaches: norm of the gradient of its loss at each state"
    return _grid(rows, panel, file, title=title, below="steps before the last word", beside="norm of dL/dh")


def _sentence(rows: Sequence[Row], file: Path) -> Path:
    def panel(axes: Axes, own: Sequence[Row]) -> None:
        _states(axes, [row for row in own if row["loss"] == SENTENCE])

    title = "The whole sentence: norm of the gradient of its loss at each state"
    return _grid(rows, panel, file, title=title, below="time step (0: from the picture)", beside="norm of dL/dh")


def _states(axes: Axes, rows: Sequence[Row]) -> None:
    """A curve for each layer (a colour) and state (solid: hidden; dashed: the LSTM's memory)."""
    for state, style in _STYLES.items():
        for layer in sorted({int(row["layer"]) for row in rows}):
            own = [row for row in rows if row["state"] == state and int(row["layer"]) == layer]
            label = f"layer {layer}" if state == "hidden" else f"layer {layer}, memory"
            if own:
                _curve(axes, own, style=style, colour=f"C{layer - 1}", label=label)


def _curve(axes: Axes, rows: Sequence[Row], *, style: str, colour: str, label: str) -> None:
    steps, norms = [int(row["step"]) for row in rows], [float(row["norm"]) for row in rows]
    axes.semilogy(steps, norms, linestyle=style, color=colour, label=label, nonpositive="mask")


def _radius(rows: Sequence[Row], file: Path) -> Path:
    """A panel for each number of layers; a colour for each spectral radius, a style for each layer."""
    radii = list(dict.fromkeys(row["radius"] for row in rows))

    def panel(axes: Axes, own: Sequence[Row]) -> None:
        for place, radius in enumerate(radii):
            for layer in sorted({int(row["layer"]) for row in own}):
                curve = [
                    row for row in own if (row["radius"], int(row["layer"]), row["loss"]) == (radius, layer, LAST_WORD)
                ]
                style = _LAYERS[(layer - 1) % len(_LAYERS)]
                label = f"{float(radius):g}, layer {layer}"
                _curve(axes, curve, style=style, colour=f"C{place}", label=label)

    title = "Recurrent matrices scaled to a spectral radius: the last word's loss"
    return _grid(rows, panel, file, title=title, below="steps before the last word", beside="norm of dL/dh")


def _matrices(rows: Sequence[Row], file: Path) -> Path:
    """Of each recurrent matrix, by layer: a disc at its spectral radius, a triangle at its largest singular value."""

    def panel(axes: Axes, own: Sequence[Row]) -> None:
        gates = list(dict.fromkeys(row["gate"] for row in own))
        for place, gate in enumerate(gates):
            mine = [row for row in own if row["gate"] == gate]
            at = [int(row["layer"]) + 0.16 * (place - (len(gates) - 1) / 2) for row in mine]
            colour = f"C{_GATES.index(gate)}"
            axes.plot(at, [float(row["spectral_radius"]) for row in mine], "o", color=colour, label=gate)
            axes.plot(at, [float(row["largest_singular_value"]) for row in mine], "^", color=colour)
        axes.axhline(1.0, color="0.5", linewidth=0.8)
        axes.set_xticks(sorted({int(row["layer"]) for row in own}))
        axes.margins(x=0.3)
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_major_locator(FixedLocator(_TICKS))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")

    title = "Recurrent matrices: spectral radius (discs) and largest singular value (triangles)"
    return _grid(rows, panel, file, title=title, below="layer", beside="")


def _grid(
    rows: Sequence[Row],
    panel: Callable[[Axes, Sequence[Row]], None],
    file: Path,
    *,
    title: str,
    below: str,
    beside: str,
) -> Path:
    """A panel for each model: bundles in the first line, then fresh cells, a column a cell and a line a depth."""
    by_model: dict[Model, list[Row]] = {}
    for row in rows:
        by_model.setdefault((row["model"], row["cell"], row["layers"]), []).append(row)
    places = _places(list(by_model))
    lines, columns = (1 + max(place[axis] for place in places.values()) for axis in (0, 1))
    figure = Figure(figsize=(max(2, columns) * _PANEL[0], lines * _PANEL[1] + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in grid.flat:
        axes.set_visible(False)
    for model, place in places.items():
        axes = grid[place]
        axes.set_visible(True)
        panel(axes, by_model[model])
        name, cell, layers = model
        axes.set_title(f"{name}\n{cell}, {layers} layer{'s' if layers != '1' else ''}", fontsize=9)
        axes.set_xlabel(below, fontsize=8)
        if place[1] == 0:
            axes.set_ylabel(beside, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    known = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(file, dpi=_RESOLUTION, pil_kwargs={"optimize": True})
    return file


def _places(models: Sequence[Model]) -> dict[Model, tuple[int, int]]:
    """The line and the column of each model's panel."""
    bundles = [model for model in models if model[0] != "fresh"]
    fresh = [model for model in models if model[0] == "fresh"]
    cells = list(dict.fromkeys(cell for _, cell, _ in fresh))
    depths = list(dict.fromkeys(layers for _, _, layers in fresh))
    if len(cells) == 1:  # the depths beside each other, instead of a tower
        cells, depths = depths, cells
        places = {model: (depths.index(model[1]), cells.index(model[2])) for model in fresh}
    else:
        places = {model: (depths.index(model[2]), cells.index(model[1])) for model in fresh}
    wide = max(len(cells), 3)
    above = -(-len(bundles) // wide)  # lines of bundles
    found = {model: divmod(number, wide) for number, model in enumerate(bundles)}
    return {**found, **{model: (line + above, column) for model, (line, column) in places.items()}}
