"""Damage to files: what networks, disks and attackers do to them."""

from __future__ import annotations

import random
from collections.abc import Callable

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, (1 << 64) - 1)
"""Values of header fields at which programs go wrong."""
_HEADER = 512
"""Bytes at a file's beginning that most headers fit in."""


def _flip_bits(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 4, 64))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _truncate(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(1, len(data) + 1) :]


def _insert(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data))
    data[at:at] = dice.randbytes(dice.choice((1, 2, 40, 3000)))


def _remove(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data))
    del data[at : at + min(dice.choice((1, 2, 40, 3000)), len(data) - at - 1)]


def _duplicate(data: bytearray, dice: random.Random) -> None:
    first = dice.randrange(len(data))
    piece = data[first : first + dice.choice((4, 100, 8000))]
    at = dice.randrange(len(data))
    data[at:at] = piece * dice.choice((1, 3))


def _set_field(data: bytearray, dice: random.Random) -> None:
    """An extreme value in a field of 1, 2, 4 or 8 bytes, mostly in the header."""
    width = dice.choice((1, 2, 4, 4, 8))
    value = dice.choice(_EXTREMES) % (1 << 8 * width)
    end = min(len(data), _HEADER) if dice.random() < 0.8 else len(data)
    at = dice.randrange(end)
    data[at : at + width] = value.to_bytes(width, dice.choice(("little", "big")))


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits,
    _truncate,
    _insert,
    _remove,
    _duplicate,
    _set_field,
    _set_field,
)


def mutated(original: bytes, dice: random.Random) -> bytes:
    """`original` with one to four kinds of damage; never empty."""
    data = bytearray(original)
    for _ in range(dice.randint(1, 4)):
        dice.choice(_MUTATIONS)(data, dice)
    return bytes(data)
