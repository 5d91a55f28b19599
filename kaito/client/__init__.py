"""One request at a time: configuration, credentials, transport, middleware, typed verbs, errors."""

from kaito.client.client import Client, SubresourceClient
from kaito.client.config import Config, ConfigError, from_kubeconfig, in_cluster, load_config
from kaito.client.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    CacheNotSynced,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    LeadershipLost,
    NotFound,
    ServerTimeout,
    TooManyRequests,
    TransportError,
    Unauthorized,
)
from kaito.client.middleware import Handler, Middleware
from kaito.client.reader import Reader
from kaito.client.results import Applied, ObjectList, Unreadable, WatchEvent
from kaito.client.transport import AiohttpTransport, Request, Response, ResponseStream, Transport

__all__ = [
    "AiohttpTransport",
    "AlreadyExists",
    "ApiError",
    "Applied",
    "BadRequest",
    "CacheNotSynced",
    "Client",
    "Config",
    "ConfigError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Handler",
    "Invalid",
    "KubeError",
    "LeadershipLost",
    "Middleware",
    "NotFound",
    "ObjectList",
    "Reader",
    "Request",
    "Response",
    "ResponseStream",
    "ServerTimeout",
    "SubresourceClient",
    "TooManyRequests",
    "Transport",
    "TransportError",
    "Unauthorized",
    "Unreadable",
    "WatchEvent",
    "from_kubeconfig",
    "in_cluster",
    "load_config",
]
