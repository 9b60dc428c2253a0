"""Narrow floating-point numbers, and blocks of them that share a scale.

Elements and blocks of the MX formats: Open Compute Project, "OCP Microscaling Formats (MX)
Specification", version 1.0, 2023, sections 5 and 6; FP8: Micikevicius et al., "FP8 Formats for
Deep Learning", 2022, arXiv 2209.05433. MSFP: Darvish Rouhani et al., "Pushing the Limits of Narrow
Precision Inferencing at Cloud Scale with Microsoft Floating Point", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Element:
    """Numbers with a sign: those below the least normal one have its step.

    Attributes:
        mantissa: Bits behind the point.
        least: Exponent of the least normal number.
        largest: What greater numbers become.
    """

    mantissa: int
    least: int
    largest: float

    @property
    def greatest_exponent(self) -> int:
        """The exponent of the largest number."""
        return int(np.frexp(self.largest)[1]) - 1

    def nearest(self, real: Reals) -> Reals:
        """Round to the nearest number, to the even one of two; infinities saturate."""
        exponent = np.maximum(np.frexp(real)[1] - 1, self.least)
        step = np.ldexp(1.0, exponent - self.mantissa)
        return np.asarray(np.clip(np.rint(real / step) * step, -self.largest, self.largest))


class NumberFormat(StrEnum):
    """Formats that can be emulated, by their common names."""

    E4M3 = "fp8-e4m3"
    E5M2 = "fp8-e5m2"
    MXFP8 = "mxfp8"
    MXFP6 = "mxfp6"
    MXFP4 = "mxfp4"
    MXINT8 = "mxint8"
    MSFP16 = "msfp16"
    MSFP12 = "msfp12"

    @property
    def element(self) -> Element:
        """The numbers before they are scaled."""
        return _FORMATS[self][0]

    @property
    def block(self) -> int | None:
        """How many neighbours share a power of two; None where a tensor or a channel shares."""
        return _FORMATS[self][1]

    def nearest(self, rows: Reals) -> Reals:
        """Each row, along the last axis, in this format: what the numbers stored stand for.

        Without blocks, the largest magnitude of a row becomes the largest number.
        """
        if self.block is None:
            peak = np.abs(rows).max(axis=-1, keepdims=True)
            scale = np.where(peak > 0, peak / self.element.largest, 1.0)
            return np.asarray(self.element.nearest(rows / scale) * scale)
        depth = rows.shape[-1]
        padding = [(0, 0)] * (rows.ndim - 1) + [(0, -depth % self.block)]
        blocks = np.pad(rows, padding).reshape(*rows.shape[:-1], -1, self.block)
        peak = np.abs(blocks).max(axis=-1, keepdims=True)
        exponent = np.frexp(peak)[1] - 1 - self.element.greatest_exponent
        scale = np.where(peak > 0, np.ldexp(1.0, exponent), 1.0)
        rounded = self.element.nearest(blocks / scale) * scale
        return np.asarray(rounded.reshape(*rows.shape[:-1], -1)[..., :depth])


def _fixed(bits: int) -> Element:
    """Integers of a sign and `bits`, with one bit before the point: all have one step."""
    return Element(bits - 1, 0, 2.0 - 2.0 ** (1 - bits))


_FORMATS: dict[NumberFormat, tuple[Element, int | None]] = {
    NumberFormat.E4M3: (Element(3, -6, 448.0), None),
    NumberFormat.E5M2: (Element(2, -14, 57344.0), None),
    NumberFormat.MXFP8: (Element(3, -6, 448.0), 32),
    NumberFormat.MXFP6: (Element(3, 0, 7.5), 32),
    NumberFormat.MXFP4: (Element(1, 0, 6.0), 32),
    NumberFormat.MXINT8: (_fixed(7), 32),
    NumberFormat.MSFP16: (_fixed(7), 16),
    NumberFormat.MSFP12: (_fixed(3), 16),
}
