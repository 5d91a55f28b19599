"""One request at a time: configuration, credentials, transport, middleware, typed verbs, errors."""

from kaito.client.client import Client
from kaito.client.config import Config, ConfigError, from_kubeconfig, in_cluster, load_config
from kaito.client.discovery import Discovery
from kaito.client.discovery_documents import ServedKind
from kaito.client.errors import (
    AlreadyExists,
    ApiError,
    ApplyConflict,
    BadRequest,
    CacheNotSynced,
    Conflict,
    FieldConflict,
    Forbidden,
    Gone,
    InternalError,
    Invalid,
    KubeError,
    LeadershipLost,
    MethodNotAllowed,
    NoSuchKind,
    NotFound,
    ServerTimeout,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
    Unauthorized,
)
from kaito.client.merge_patch import merge_patch
from kaito.client.middleware import Handler, Middleware, WriteLimitMiddleware, dry_run, usual_middleware
from kaito.client.observed import ObservedTransport
from kaito.client.reader import Reader
from kaito.client.results import Applied, ObjectList, Unreadable, WatchEvent
from kaito.client.subresources import ScaleClient, SubresourceClient
from kaito.client.transport import AiohttpTransport, Request, Response, ResponseStream, Transport
from kaito.client.writer import WriteOptions, Writer

__all__ = [
    "AiohttpTransport",
    "AlreadyExists",
    "ApiError",
    "Applied",
    "ApplyConflict",
    "BadRequest",
    "CacheNotSynced",
    "Client",
    "Config",
    "ConfigError",
    "Conflict",
    "Discovery",
    "FieldConflict",
    "Forbidden",
    "Gone",
    "Handler",
    "InternalError",
    "Invalid",
    "KubeError",
    "LeadershipLost",
    "MethodNotAllowed",
    "Middleware",
    "NoSuchKind",
    "NotFound",
    "ObjectList",
    "ObservedTransport",
    "Reader",
    "Request",
    "Response",
    "ResponseStream",
    "ScaleClient",
    "ServedKind",
    "ServerTimeout",
    "ServiceUnavailable",
    "SubresourceClient",
    "TooManyRequests",
    "Transport",
    "TransportError",
    "Unauthorized",
    "Unreadable",
    "WatchEvent",
    "WriteLimitMiddleware",
    "WriteOptions",
    "Writer",
    "dry_run",
    "from_kubeconfig",
    "in_cluster",
    "load_config",
    "merge_patch",
    "usual_middleware",
]
