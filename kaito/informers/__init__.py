"""Many objects at rest: reflector, store, indexes, informer, and the cache that reads its own writes."""

from kaito.informers.cache import Cache
from kaito.informers.entry import Entry, Owner, UnreadableObject, store_key
from kaito.informers.floors import WriteFloors
from kaito.informers.handlers import EventHandler, InformerEvent, Registration, SlowEventHandler
from kaito.informers.informer import Informer
from kaito.informers.options import InformerOptions, ListMode, Transform
from kaito.informers.reflector import Reflector
from kaito.informers.store import Change, Store, StoreReader

__all__ = [
    "Cache",
    "Change",
    "Entry",
    "EventHandler",
    "Informer",
    "InformerEvent",
    "InformerOptions",
    "ListMode",
    "Owner",
    "Reflector",
    "Registration",
    "SlowEventHandler",
    "Store",
    "StoreReader",
    "Transform",
    "UnreadableObject",
    "WriteFloors",
    "store_key",
]
