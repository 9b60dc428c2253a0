"""Which rows of a chain are computed when: played through, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.ir import Band, BandedLayer, Bands, RowWindow, bands_of

_THREE = RowWindow(1, 3, 1)


def _out_height(height: int, window: RowWindow) -> int:
    return (height + 2 * window.pad - window.extent) // window.stride + 1


@st.composite
def _chains(draw: st.DrawFn) -> list[BandedLayer]:
    """Layers that follow each other, some of which also read the one before the last."""
    layers = [BandedLayer(draw(st.integers(6, 60)), least=draw(st.sampled_from([1, 1, 2, 4])))]
    for _ in range(draw(st.integers(1, 4))):
        extent = draw(st.integers(1, 5))
        window = RowWindow(draw(st.integers(1, 3)), extent, draw(st.integers(0, extent - 1)))
        height = _out_height(layers[-1].height, window)
        if height < 2:
            break
        reads = [(len(layers) - 1, window)]
        same = [i for i, layer in enumerate(layers[:-1]) if layer.height == height]
        if same and draw(st.sampled_from([0, 1])):
            reads.append((same[-1], RowWindow()))
        least = draw(st.sampled_from([1, 1, 2, 4]))
        layers.append(BandedLayer(height, tuple(reads), least))
    return layers


class _Window:
    """The rows of one image that are in memory, by their place; padding is a row of its own."""

    def __init__(self, band: Band) -> None:
        self.band = band
        self.rows: list[int | None] = [None] * band.capacity
        self.done: list[int] = []
        for row in range(band.above):
            self.rows[band.base - band.above + row] = row - band.above

    def put(self, first: int, count: int) -> None:
        for row in range(first, first + count):
            self.rows[self.band.base + row - first] = row
            self.done.append(row)

    def keep(self, count: int) -> None:
        source, target = self.band.base + count - self.band.kept, self.band.base - self.band.kept
        for row in range(self.band.kept):
            self.rows[target + row] = self.rows[source + row]


def _play(layers: Sequence[BandedLayer], bands: Bands) -> list[list[int]]:
    """Compute the chain, holding every read against the rows that are there."""
    windows = [_Window(band) for band in bands.layers]

    def step(rows: Sequence[int], first: Sequence[int], *, is_ahead: bool, is_last: bool) -> None:
        for index, layer in enumerate(layers):
            band, count = bands.layers[index], rows[index]
            for source, window in layer.reads if count else ():
                wanted = window.start(first[index])
                other = bands.layers[source]
                ahead = window.start(band.lead) - other.lead if is_ahead else -window.pad
                start = other.base + ahead
                read = windows[source].rows[start : start + window.count(count)]
                assert read == list(range(wanted, wanted + window.count(count)))
            assert count == 0 or count >= layer.least
            windows[index].put(first[index], count)
            if is_last:
                for row in range(band.below):
                    windows[index].rows[band.base + count + row] = layer.height + row
        for kept, count in zip(windows, rows, strict=True):
            if count:
                kept.keep(count)

    step([b.lead for b in bands.layers], [0] * len(layers), is_ahead=False, is_last=False)
    for number in range(bands.passes - 1):
        first = [number * band.rows + band.lead for band in bands.layers]
        step([b.rows for b in bands.layers], first, is_ahead=True, is_last=False)
    first = [band.first_of_last for band in bands.layers]
    step([b.last for b in bands.layers], first, is_ahead=True, is_last=True)
    return [window.done for window in windows]


@settings(max_examples=400, deadline=None)
@given(_chains(), st.integers(1, 20))
def test_every_row_is_there_when_it_is_read_and_is_computed_once(
    layers: list[BandedLayer], rows: int
) -> None:
    bands = bands_of(layers, rows)
    if bands is None:
        return
    for done, layer in zip(_play(layers, bands), layers, strict=True):
        assert done == list(range(len(done)))  # Each once, from the top.
        assert len(done) <= layer.height
    assert _play(layers, bands)[-1] == list(range(layers[-1].height))


def test_two_rows_stay_between_windows_of_three() -> None:
    layers = [BandedLayer(32), BandedLayer(32, ((0, _THREE),)), BandedLayer(32, ((1, _THREE),))]
    bands = bands_of(layers, 8)
    assert bands is not None
    assert bands.passes == 4
    assert [band.lead for band in bands.layers] == [2, 1, 0]
    assert [band.kept for band in bands.layers] == [2, 2, 0]
    assert [band.last for band in bands.layers] == [6, 7, 8]
    assert [band.capacity for band in bands.layers[:2]] == [10, 10]


def test_readers_that_step_differently_are_no_chain() -> None:
    half = RowWindow(2, 3, 1)
    layers = [BandedLayer(16), BandedLayer(8, ((0, half),)), BandedLayer(8, ((1, RowWindow()),))]
    assert bands_of(layers, 2) is not None
    uneven = BandedLayer(8, ((1, RowWindow()), (0, RowWindow())))
    assert bands_of([*layers[:2], uneven], 2) is None


@pytest.mark.parametrize("rows", [16, 20])
def test_one_pass_is_no_chain(rows: int) -> None:
    assert bands_of([BandedLayer(16), BandedLayer(16, ((0, _THREE),))], rows) is None
