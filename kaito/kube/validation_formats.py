"""Patterns and formats as the API server reads them: RE2 for patterns, go-openapi's names for formats.

Patterns run on the regex engine of pydantic: like RE2 it takes linear time, which Python's ``re`` does not, so that no
text that a user sends can hold the process up. The two engines agree but for a few spellings, which are translated
here; a pattern that is still refused is one that only the API server can tell about.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from ipaddress import ip_address
from typing import Final

from pydantic_core import SchemaError, SchemaValidator, core_schema

Check = Callable[[str], bool]

_OUTSIDE = re.compile(r"(?P<escape>\\.)|(?P<open>\[\^?\]?)|(?P<text>\{(?!\d+(,\d*)?\}))|(?P<other>.)", re.DOTALL)
_INSIDE = re.compile(
    r"(?P<escape>\\.)|(?P<named>\[:\^?\w+:\])|(?P<close>\])|(?P<unclear>--|\[)|(?P<text>[&~])|(?P<other>.)", re.DOTALL
)
_ESCAPES = {
    r"\d": "[0-9]",
    r"\D": "[^0-9]",
    r"\w": "[0-9A-Za-z_]",
    r"\W": "[^0-9A-Za-z_]",
    r"\s": r"[\t\n\f\r ]",
    r"\S": r"[^\t\n\f\r ]",
    r"\b": r"(?-u:\b)",
    r"\B": r"(?-u:\B)",
    r"\<": "<",
    r"\>": ">",
}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def pattern_check(pattern: str) -> Check | None:
    """Returns whether a text contains a match of an RE2 pattern; None when that cannot be told in Python."""
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=translated(pattern), strict=True))
    except (SchemaError, re.error):
        return None
    # JSON can spell half of a surrogate pair; it reaches the API server's patterns as U+FFFD.
    return lambda text: validator.isinstance_python(_LONE_SURROGATE.sub("\ufffd", text))


def translated(pattern: str) -> str:
    """Returns an RE2 pattern in the spelling of Rust's regex crate: ASCII classes, ``{`` and ``&`` as plain text.

    Raises:
        re.error: it has a part that both engines take, but not for the same.
    """
    made: list[str] = []
    within = False
    position = 0
    while position < len(pattern):
        match = (_INSIDE if within else _OUTSIDE).match(pattern, position)
        if match is None or match.lastgroup == "unclear":
            raise re.error("not the same in both engines", pattern, position)
        made.append(_spelled(match))
        within = match.lastgroup == "open" or (within and match.lastgroup != "close")
        position = match.end()
    return "".join(made)


def _spelled(match: re.Match[str]) -> str:
    token = match.group()
    if match.lastgroup == "escape":
        return _ESCAPES.get(token, token)
    if match.lastgroup == "open":
        return token.replace("]", r"\]")
    return "\\" + token if match.lastgroup == "text" else token


def format_check(types: tuple[str, ...], name: str) -> tuple[str, Check | None]:
    """Returns the format as the API server takes it (empty: it ignores this one) and how a text is checked for it."""
    if types in (("integer",), ("number",)):
        return (name, None) if name in NUMBER_FORMATS else ("", None)
    if types not in ((), ("string",)):
        return "", None
    known = name.replace("-", "")
    return (name, _FORMATS[known]) if known in _FORMATS else ("", None)


def is_known_format(type_name: str, name: str) -> bool:
    """Whether the API server checks this format on this type; of others it warns, and ignores them."""
    return format_check((type_name,) if type_name else (), name)[0] != ""


NUMBER_FORMATS: Final[Mapping[str, tuple[float, float]]] = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "float": (-3.4028235677973366e38, 3.4028235677973366e38),
    "double": (float("-inf"), float("inf")),
}
"""The formats of numbers, with the least and the greatest of each."""

_DATE = re.compile("([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile("([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))")
_GO_DURATION = re.compile("[-+]?(0|([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+")
_NUMBER_AND_UNIT = re.compile("([0-9]+)[\t\n\f\r ]*([A-Za-z\u00b5]+)")
_UNITS = ("ns", "us", "\u00b5s", "ms", "s", "m", "h", "hr", "d", "w", "wk")
_LONG_UNITS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
_IPV4 = re.compile("([0-9]+)[.]([0-9]+)[.]([0-9]+)[.]([0-9]+)")
_SCHEME = re.compile("[a-zA-Z][a-zA-Z0-9+.-]*:")
_BAD_IN_URI = re.compile("[\x00-\x1f\x7f]|%(?![0-9a-fA-F]{2})")
_AUTHORITY = re.compile(r"""([^@/?#]*@)?(\[[^\]]*\]|[^:/?#\s<>"\\^`{|}\[\]]*)(:[0-9]*)?""")
_SHORT_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def is_date(text: str) -> bool:
    """Whether it is RFC 3339's full-date."""
    match = _DATE.fullmatch(text)
    if match is None:
        return False
    year, month, day = (int(part) for part in match.groups())
    try:
        date(year or 2000, month, day)  # the year 0, which Python lacks, is a leap year like 2000
    except ValueError:
        return False
    return True


def is_date_time(text: str) -> bool:
    """Whether it is RFC 3339's date-time, with a zone and without leap seconds."""
    day, *rest = text.lower().split("t")
    match = _TIME.fullmatch(rest[0]) if rest and is_date(day) else None
    return match is not None and match[1] <= "23" and match[2] <= "59" and match[3] <= "59"


def is_duration(text: str) -> bool:
    """Whether it is a duration of Go (``1h30m``) or has at least one part of Scala's (``2 days``)."""
    if _GO_DURATION.fullmatch(text):
        return True
    parts = _NUMBER_AND_UNIT.findall(text)
    if any(len(number.lstrip("0")) > 18 for number, _ in parts):
        return False
    units = [unit.lower() for _, unit in parts]
    return any(unit in _UNITS or unit.startswith(_LONG_UNITS) for unit in units)


def is_ip(text: str) -> bool:
    """Whether it is an address of either version; zeros may lead, zones may not follow."""
    if match := _IPV4.fullmatch(text):
        return all(len(part.lstrip("0")) < 4 and int(part) < 256 for part in match.groups())
    try:
        return ":" in text and "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def is_cidr(text: str) -> bool:
    """Whether it is an address and the length of a prefix; bits of the host may be set."""
    address, _, length = text.partition("/")
    if not is_ip(address) or not re.fullmatch("[0-9]{1,3}", length):
        return False
    return int(length) <= (128 if ":" in address else 32)


def is_uri(text: str) -> bool:
    """Whether it is a URI with a scheme, or a path from the root, as far as Go's ``url.ParseRequestURI`` is simple."""
    if _BAD_IN_URI.search(text):
        return False
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    if not rest.startswith("//") or (not scheme and rest.startswith("///")):
        return bool(scheme) or rest.startswith("/")
    authority = re.split("[/?#]", rest[2:], maxsplit=1)[0]
    return _AUTHORITY.fullmatch(authority) is not None


def _matcher(pattern: str, longest: int | None = None) -> Check:
    compiled = re.compile(pattern)
    return lambda text: (longest is None or len(text) <= longest) and compiled.fullmatch(text) is not None


def _uuid(version: str, variant: str) -> Check:
    digits = "[0-9a-fA-F]"
    return _matcher(f"{digits}{{8}}-?{digits}{{4}}-?{version}{digits}{{3}}-?{variant}{digits}{{3}}-?{digits}{{12}}")


_HEX = "[0-9a-fA-F]"
_HOSTNAME = (
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)"
    r"|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
)


@cache
def _any_hostname() -> Check | None:
    # On the first use: the letters of all scripts, so often repeated, take a tenth of a second and megabytes.
    return pattern_check(_HOSTNAME)


def is_hostname(text: str) -> bool:
    """Whether it is a name of a host: RFC 1034 and 1123, with letters and symbols of any script."""
    octets = [len(part.encode("utf-8", "replace")) for part in text.split(".")]
    if sum(octets) + len(octets) - 1 > 255 or max(octets) > 63:
        return False
    check = _any_hostname()
    return check is None or check(text)


_FORMATS: Final[Mapping[str, Check | None]] = {
    "byte": _matcher("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"),
    "cidr": is_cidr,
    "date": is_date,
    "datetime": is_date_time,
    "duration": is_duration,
    "hexcolor": _matcher(f"#?({_HEX}{{3}}|{_HEX}{{6}})"),
    "hostname": is_hostname,
    "ipv4": lambda text: "." in text and is_ip(text),
    "ipv6": lambda text: ":" in text and is_ip(text),
    "k8sshortname": _matcher(_SHORT_NAME, 63),
    "k8slongname": _matcher(rf"{_SHORT_NAME}(\.{_SHORT_NAME})*", 253),
    "mac": _matcher(
        rf"({_HEX}{{2}}([:-])({_HEX}{{2}}\2){{4}}({_HEX}{{2}}|{_HEX}{{2}}\2{_HEX}{{2}}\2{_HEX}{{2}}|({_HEX}{{2}}\2){{14}}{_HEX}{{2}}))"
        rf"|{_HEX}{{4}}([.]{_HEX}{{4}}){{2,3}}|{_HEX}{{4}}([.]{_HEX}{{4}}){{9}}"
    ),
    "uri": is_uri,
    "uuid": _uuid(_HEX, _HEX),
    "uuid3": _uuid("3", _HEX),
    "uuid4": _uuid("4", "[89abAB]"),
    "uuid5": _uuid("5", "[89abAB]"),
    # Known to the API server, and not told here: addresses by Go's mail parser, numbers with check digits.
    **dict.fromkeys(("bsonobjectid", "creditcard", "email", "isbn", "isbn10", "isbn13", "password", "rgbcolor", "ssn")),
}
