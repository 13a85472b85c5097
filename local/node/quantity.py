"""Kubernetes quantities, as far as the node needs them."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

_FACTORS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}


def parse_quantity(text: str | float) -> Decimal:
    """The value of `500m`, `1Gi`, `2e3` or a plain number. Raises ValueError."""
    words = str(text).strip()
    suffix = words.lstrip("+-.0123456789")
    if suffix in _FACTORS:
        return Decimal(words[: len(words) - len(suffix)]) * _FACTORS[suffix]
    return Decimal(words)


def divide_quantity(text: str | float, divisor: str | float) -> str:
    """What a resourceFieldRef yields: the quantity in units of the divisor, rounded up."""
    unit = parse_quantity(divisor)
    share = parse_quantity(text) / (unit or Decimal(1))
    return str(int(share.to_integral_value(rounding=ROUND_CEILING)))
