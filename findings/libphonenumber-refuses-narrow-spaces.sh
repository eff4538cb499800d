#!/usr/bin/env bash
# libphonenumber finds no phone number in one whose groups have a narrow no-break space between them.
#
# Versions: PyPI phonenumbers 9.0.43, the Python port of Google's libphonenumber with its metadata of 2026-11; Python 3.
# Source:   phonenumbers/phonenumberutil.py, _VALID_PUNCTUATION (as VALID_PUNCTUATION in Google's PhoneNumberUtil.java): it lists
#           U+0020, U+00A0, U+200B, U+2060 and U+3000, and no other space.
# Input:    +33 1 42 76 49 78 with U+202F between the groups, as French typography sets it (CLDR's separator of groups of
#           digits in French), and with U+2007 (figure space) and U+2009 (thin space).
# Expected: the same number as with U+00A0, the other no-break space.
# Seen:     NumberParseException NOT_A_NUMBER for all three; with U+0020, U+00A0 and U+3000 it is +33142764978. A form that
#           checks a pasted number with the library refuses it, though the number looks right.
# Exits 0 while this holds, 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check phonenumbers==9.0.43
"$folder/venv/bin/python" - <<'PYTHON'
import phonenumbers


def read(space):
    try:
        number = phonenumbers.parse(space.join(["+33", "1", "42", "76", "49", "78"]), None)
    except phonenumbers.NumberParseException as error:
        return "NOT_A_NUMBER" if error.error_type == error.NOT_A_NUMBER else "another error"
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


seen = {f"U+{ord(space):04X}": read(space) for space in " \u00a0\u3000\u202f\u2007\u2009"}
for space, result in seen.items():
    print(space, result)
expected = ["+33142764978"] * 3 + ["NOT_A_NUMBER"] * 3
raise SystemExit(0 if list(seen.values()) == expected else 1)
PYTHON
