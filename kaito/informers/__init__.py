"""Many objects at rest: reflector, store, indexes, informer, and the cache that reads its own writes."""

from kaito.informers.cache import Cache
from kaito.informers.floors import WriteFloors
from kaito.informers.informer import EventHandler, Informer, InformerEvent
from kaito.informers.reflector import Reflector
from kaito.informers.store import Change, Entry, Owner, Store

__all__ = [
    "Cache",
    "Change",
    "Entry",
    "EventHandler",
    "Informer",
    "InformerEvent",
    "Owner",
    "Reflector",
    "Store",
    "WriteFloors",
]
