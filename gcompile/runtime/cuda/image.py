"""Whether the machine code of a kernel is whole, asked before a driver is given it.

The driver takes an address without a size and follows what the headers say; of a file that was cut
off it would read what lies behind it. See the ELF-64 layout in the System V ABI, chapter 4.
"""

from __future__ import annotations

import struct

from gcompile.runtime.cuda.plan import Format

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_MAGIC, _CLASS_64, _LITTLE = b"\x7fELF", 2, 1
_EM_CUDA = 190
_NO_BITS = 8


def is_whole(image: bytes, format_: Format) -> bool:
    """Whether everything that the image's headers speak of lies within it.

    Args:
        image: One kernel as a cubin, an ELF file, or as PTX, a text.
        format_: Which of them.
    """
    if format_ == "ptx":
        text = image.rstrip(b"\0")
        return b"\0" not in text and b".version" in text and text.rstrip().endswith(b"}")
    try:
        return _is_whole_elf(image)
    except (struct.error, OverflowError):
        return False


def _is_whole_elf(image: bytes) -> bool:
    (identity, _, machine, _, _, programs_at, sections_at, _, _, program_size, programs,
     section_size, sections, _) = _HEADER.unpack_from(image)  # fmt: skip
    if identity[:4] != _MAGIC or (identity[4], identity[5]) != (_CLASS_64, _LITTLE):
        return False
    if machine != _EM_CUDA or not sections or section_size != _SECTION.size:
        return False
    if programs and program_size != _PROGRAM.size:
        return False
    for index in range(sections):
        _, kind, _, _, at, size, *_ = _SECTION.unpack_from(
            image, sections_at + index * section_size
        )
        if kind != _NO_BITS and at + size > len(image):
            return False
    for index in range(programs):
        _, _, at, _, _, size, *_ = _PROGRAM.unpack_from(image, programs_at + index * program_size)
        if at + size > len(image):
            return False
    return True
