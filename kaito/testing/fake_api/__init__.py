"""An API server in memory for tests: real resourceVersions, watches, server-side apply; no sockets, no waiting.

Under `kaito.testing.virtual_clock.run` a whole manager replays on it: the same seed gives the same ``api.log``.
"""

from kaito.testing.fake_api.actors import Actor, deployment_agent, node_agent
from kaito.testing.fake_api.failures import Failure
from kaito.testing.fake_api.faults import (
    Action,
    Alter,
    CutAnswer,
    CutWatch,
    Delay,
    Drop,
    FailWatch,
    Fault,
    Faults,
    Hang,
    Refuse,
    Trickle,
    throttled,
    version_expired,
    version_too_large,
)
from kaito.testing.fake_api.faulty_transport import FaultyTransport
from kaito.testing.fake_api.garbage import garbage_collector
from kaito.testing.fake_api.http import FakeApiServer
from kaito.testing.fake_api.kinds import Kind
from kaito.testing.fake_api.request_log import LogEntry, RequestLog
from kaito.testing.fake_api.server import FakeApi

__all__ = [
    "Action",
    "Actor",
    "Alter",
    "CutAnswer",
    "CutWatch",
    "Delay",
    "Drop",
    "FailWatch",
    "Failure",
    "FakeApi",
    "FakeApiServer",
    "Fault",
    "Faults",
    "FaultyTransport",
    "Hang",
    "Kind",
    "LogEntry",
    "Refuse",
    "RequestLog",
    "Trickle",
    "deployment_agent",
    "garbage_collector",
    "node_agent",
    "throttled",
    "version_expired",
    "version_too_large",
]
