# SPDX-License-Identifier: MIT
"""Names for addresses in a file of machine code: its symbol tables, read by pyelftools."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

SIZE_MAX = 512 << 20  # bytes of a file


class Symbols:
    """The functions of one file, by where they begin. A file that cannot be read has none."""

    def __init__(self, path: Path) -> None:
        self._functions: list[tuple[int, int, str]] = []
        self._segments: list[tuple[int, int, int]] = []  # offset in the file, size, address
        try:
            if path.is_file() and path.stat().st_size <= SIZE_MAX:  # a driver's word, and nothing to wait for
                with path.open("rb") as file:
                    self._read(ELFFile(file))
        except (OSError, ELFError, ValueError, UnicodeDecodeError):
            self._functions = []
        self._functions.sort()

    def name(self, offset: int) -> str | None:
        """FUNCTION+0xOFFSET of an offset in the file, or None."""
        address = self._address(offset)
        at = bisect_right(self._functions, (address, 1 << 64, "")) - 1
        if address < 0 or at < 0:
            return None
        begin, size, name = self._functions[at]
        return f"{name}+{address - begin:#x}" if address < begin + max(size, 1) else None

    def _address(self, offset: int) -> int:
        for begin, size, address in self._segments:
            if begin <= offset < begin + size:
                return offset - begin + address
        return -1

    def _read(self, elf: ELFFile) -> None:
        for segment in elf.iter_segments("PT_LOAD"):
            self._segments.append((segment["p_offset"], segment["p_filesz"], segment["p_vaddr"]))
        for section in elf.iter_sections():
            if isinstance(section, SymbolTableSection):
                self._functions += _functions(section)


def _functions(table: SymbolTableSection) -> Iterable[tuple[int, int, str]]:
    for symbol in table.iter_symbols():
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_value"] and symbol.name:
            yield symbol["st_value"], symbol["st_size"], symbol.name
