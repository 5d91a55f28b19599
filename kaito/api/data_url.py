"""DataURL: an address to download training data from, which must not be one of the cluster's or the cloud's own.

Everything is decided by regular expressions over the address, so that no two parsers of URLs can disagree about which
host is meant. What a name resolves to is not known here.
"""

from ipaddress import IPv6Address
from typing import Annotated, Any, Final

from kaito.api.text_rules import form, found, no_placeholder, not_matching
from kaito.kube.schema_markers import Limits, Rule

_ESCAPED: Final = "%[0-9A-Fa-f]{2}"
_USER: Final = rf"(([A-Za-z0-9._~!\x24&()*+,;=:-]|{_ESCAPED})*@)?"
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?"
_PORT: Final = "(:[0-9]{1,5})?"
_AFTER_HOST: Final = r"(/([^\x00-\x20\x7f%]|%[0-9A-Fa-f]{2})*|[?]([^\x00-\x20\x7f%#]|%[0-9A-Fa-f]{2})*)?$"
_FORM: Final = rf"^(?i:https?)://{_USER}({_LABEL}([.]{_LABEL})*[.]?|\[[0-9A-Fa-f:.]+\]){_PORT}{_AFTER_HOST}"

# A host begins after `://` or after the last @ before the path; it ends at a port, the path or the query.
_BEFORE_HOST: Final = "^(?i:https?)://([^/?@]*@)?"
_HOST_ENDS: Final = "[.]?(:[0-9]*)?([/?]|$)"
_BYTE: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_OWN_NAMES: Final = "(([^/?@]*[.])?localhost|metadata[.]google([.]internal)?|instance-data[.]ec2[.]internal)"
_OWN_IPV4: Final = "|".join(
    (
        "(0|10|127|22[4-9]|2[34][0-9]|25[0-5])[.][0-9.]+",  # this network, private, loopback, multicast and reserved
        "169[.]254[.][0-9.]+",  # link-local, and with it the clouds' metadata
        "172[.](1[6-9]|2[0-9]|3[01])[.][0-9.]+",
        "192[.]168[.][0-9.]+",
    )
)
_NUMBER: Final = f"{_BEFORE_HOST}([^/?@:]*[.])?([0-9]+|0[xX][0-9A-Fa-f]*){_HOST_ENDS}"
_DOTTED_QUAD: Final = f"{_BEFORE_HOST}({_BYTE}[.]){{3}}{_BYTE}{_HOST_ENDS}"
_BRACKETED: Final = rf"{_BEFORE_HOST}\["
# 2000::/3, which is all that is public: no loopback, private, link-local or multicast address, no IPv4 in disguise.
_PUBLIC_IPV6: Final = r"^(?i:https?)://([^/?@]*@)?\[[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]+\]"
_IN_BRACKETS: Final = r"\[[0-9A-Fa-f:]+\]"


def _plain_number() -> Rule:
    is_number, is_dotted_quad = found(_NUMBER), found(_DOTTED_QUAD)

    def holds(value: Any, _old: Any) -> bool:
        return not is_number(value) or is_dotted_quad(value)

    return Rule(
        f"!self.matches(r'{_NUMBER}') || self.matches(r'{_DOTTED_QUAD}')",
        "an IPv4 address is written as four decimal numbers from 0 to 255, such as 203.0.113.7",
        holds=holds,
    )


def _public_ipv6() -> Rule:
    is_bracketed, is_public = found(_BRACKETED), found(_PUBLIC_IPV6)

    def holds(value: Any, _old: Any) -> bool:
        return not is_bracketed(value) or (is_public(value) and _is_ipv6(value.partition("[")[2].partition("]")[0]))

    return Rule(
        f"!self.matches(r'{_BRACKETED}') || (self.matches(r'{_PUBLIC_IPV6}') "
        f"&& isIP(self.find(r'{_IN_BRACKETS}').replace('[', '').replace(']', '')))",
        "not a public IPv6 address: loopback, private, link-local, multicast and IPv4-mapped addresses are not allowed",
        holds=holds,
    )


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


DataURL = Annotated[
    str,
    Limits(min_length=1, max_length=2048),
    no_placeholder("the address of your own data"),
    form(_FORM, "not an address to download from: write http://HOST/PATH or https://HOST/PATH, without spaces"),
    not_matching(
        f"{_BEFORE_HOST}(?i:{_OWN_NAMES}){_HOST_ENDS}",
        "the machine's own name or a cloud's metadata service is not allowed: give a host that serves your data",
    ),
    not_matching(
        f"{_BEFORE_HOST}({_OWN_IPV4}){_HOST_ENDS}",
        "loopback, private, link-local, multicast and reserved addresses are not allowed: give a public host",
    ),
    _plain_number(),
    _public_ipv6(),
]
"""An http or https URL of a host that is not this machine, a private address or a cloud's metadata service."""
