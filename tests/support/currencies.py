"""Writes `schemas/currencies.py` from the package `iso4217`: `python -m tests.support.currencies`."""

import iso4217

from tests.support.paths import ROOT

PATH = ROOT / "schemas" / "currencies.py"
_HEAD = '''"""The currencies of ISO 4217 by the number of their decimals. Generated; do not edit.

Written by `python -m tests.support.currencies` from the list that ISO published on {published}. Codes without an
exponent (metals, funds, tests: XAU, XXX …) are left out.
"""

_CODES: dict[int, str] = {{
'''
_END = """}

EXPONENTS: dict[str, int] = {code: exponent for exponent, codes in _CODES.items() for code in codes.split()}
"""
_CODES_A_LINE = 24


def content() -> str:
    """Return the module's text."""
    by_exponent: dict[int, list[str]] = {}
    for currency in sorted(iso4217.Currency, key=lambda each: each.code):
        if currency.exponent is not None:
            by_exponent.setdefault(currency.exponent, []).append(currency.code)
    lines = []
    for exponent, codes in sorted(by_exponent.items()):
        rows = [" ".join(codes[at : at + _CODES_A_LINE]) for at in range(0, len(codes), _CODES_A_LINE)]
        if len(rows) == 1:
            lines.append(f'    {exponent}: "{rows[0]}",\n')
        else:
            quoted = [f'        "{row} "\n' for row in rows[:-1]] + [f'        "{rows[-1]}"\n']
            lines += [f"    {exponent}: (\n", *quoted, "    ),\n"]
    return _HEAD.format(published=iso4217.__published__) + "".join(lines) + _END


if __name__ == "__main__":
    PATH.write_text(content(), encoding="utf-8")
