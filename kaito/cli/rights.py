"""Rights that whoever asks has not, and the commands by which an administrator gives them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import NamedTuple

_USER = re.compile(r'User "((?:[^"\\]|\\.)+)" cannot')
_SERVICE_ACCOUNT = "system:serviceaccount:"
_NO_LETTER = re.compile(r"[^a-z0-9]+")
_ANYBODY = "YOUR_USER"


class Right(NamedTuple):
    """A right that whoever asks has not.

    Attributes:
        verb: get or list.
        resource: as RBAC names it, such as ``pods/log``.
        namespace: where; None: in the whole cluster.
    """

    verb: str
    resource: str
    namespace: str | None

    def __str__(self) -> str:
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {self.resource} {where}"


def refused_user(message: str) -> str:
    """Who was refused, by the API server's sentence; empty if it does not say."""
    found = _USER.search(message)
    return found[1] if found else ""


def giving_commands(
    role: str, user: str, namespace: str | None, verbs: Sequence[str], resources: Sequence[str], only: str = ""
) -> list[str]:
    """The two commands that give a user rights: a role, and its binding.

    Args:
        role: name of the role; that of the binding is made of it and the user's.
        user: as the API server names them; empty: it is to be filled in.
        namespace: where they count; None: in the whole cluster.
        verbs: what may be done.
        resources: with what.
        only: name of the one object that it may be done with.
    """
    kind = "role" if namespace else "clusterrole"
    where = ["-n", namespace] if namespace else []
    one = ["--resource-name", only] if only else []
    made = ["kubectl", "create", kind, role, *where, f"--verb={','.join(verbs)}", f"--resource={','.join(resources)}"]
    binding = f"{role}-{_NO_LETTER.sub('-', _short(user).lower()).strip('-')}"
    bound = ["kubectl", "create", f"{kind}binding", binding, *where, f"--{kind}={role}", _subject(user)]
    return [shlex.join([*made, *one]), shlex.join(bound)]


def _short(user: str) -> str:
    return user.rpartition(":")[2] or _ANYBODY


def _subject(user: str) -> str:
    if user.startswith(_SERVICE_ACCOUNT):
        return f"--serviceaccount={user.removeprefix(_SERVICE_ACCOUNT)}"
    return f"--user={user or _ANYBODY}"
