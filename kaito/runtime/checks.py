"""What a manager's own checks look at: informers, controllers and services, each by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kaito.informers.informer import Informer
from kaito.kube.resource import Resource
from kaito.runtime.controller import Controller
from kaito.runtime.elections import Elections
from kaito.runtime.life import Life
from kaito.runtime.running import Phase, why_unsynced

SILENT_S = 600.0
"""A watch is given up after 90 s without an event or bookmark, and listed anew when that repeats: ten minutes without
either mean that nothing gets through, errors or not."""
STUCK_S = 600.0
# What a reconcile that ran out of its time has to end before it is said to be stuck.
ENDING_S = 60.0
NAMED = 5


def informer_checks(
    informers: Iterable[Informer[Resource]], controllers: Iterable[Controller[Resource]], crd_remedy: str
) -> dict[str, str | None]:
    """``informer/KIND`` for each kind that is cached: whether it is synced, and its watch alive.

    A kind that all controllers declare as optional, and that the cluster lacks, is well.
    """
    controllers = list(controllers)
    declared = {kind for controller in controllers for kind in controller.kinds}
    needed = {kind for controller in controllers for kind in controller.needed_kinds}
    found: dict[str, str | None] = {}
    for informer in informers:
        name = f"informer/{informer.kind.resource_type.group_kind}"
        missing = informer.state.dormant and informer.kind in declared - needed
        fault = None if missing else informer_fault(informer, crd_remedy)
        # Several informers of one kind, with other scopes: the first that is not well speaks for them.
        found[name] = found.get(name) or fault
    return found


def informer_fault(informer: Informer[Resource], crd_remedy: str) -> str | None:
    """Why an informer is not as new as it could be, in a sentence."""
    age_s = _age_s(informer)
    heard = "" if age_s is None else f" (last heard of {age_s:.0f} s ago)"
    state = informer.state
    if state.error is not None:
        why = why_unsynced(informer, crd_remedy)
        return why if state.dormant else f"watch broken{heard}: {why}"
    if not informer.synced:
        return "first list not in yet"
    if age_s is not None and age_s > SILENT_S:
        return f"watch silent for {age_s:.0f} s: not even a bookmark came; look at what stands between here and the API"
    return None


def controller_checks(
    controllers: Iterable[Controller[Resource]], informers: Iterable[Informer[Resource]], stuck_s: float | None
) -> dict[str, str | None]:
    """``controller/NAME`` for each: it works or stands by, and no key has been worked on for longer than `stuck_s`.

    One that waits for its own kind, which is optional and which the cluster lacks, is well.
    """
    missing = {informer.kind for informer in informers if informer.state.dormant}
    return {
        f"controller/{controller.name}": controller_fault(controller, stuck_s)
        for controller in controllers
        if not (controller.optional and controller.kind in missing)
    }


def controller_fault(controller: Controller[Resource], stuck_s: float | None) -> str | None:
    """Why a controller does not do its work, in a sentence. To stand by is well."""
    if controller.phase is Phase.STOPPED:
        return "not running"
    if controller.phase is Phase.SYNCING:
        return "waits for its caches; see the checks of its informers"
    stuck = stuck_keys(controller, stuck_s)
    if not stuck:
        return None
    named = ", ".join(f"{key} for {seconds:.0f} s" for key, seconds in stuck[:NAMED])
    more = f" and {len(stuck) - NAMED} more" if len(stuck) > NAMED else ""
    return f"stuck working on {named}{more}: its reconciler does not return"


def stuck_keys(controller: Controller[Resource], stuck_s: float | None) -> list[tuple[object, float]]:
    """The keys that have been worked on for longer than that, longest first, with their seconds.

    Args:
        controller: whose.
        stuck_s: how long is too long; None: `STUCK_S`, or longer where its reconciles may take longer.
    """
    if not controller.running:
        return []
    if stuck_s is None:
        timeout = controller.reconcile_timeout
        stuck_s = STUCK_S if timeout is None else max(STUCK_S, timeout.total_seconds() + ENDING_S)
    return [(work.key, work.seconds) for work in controller.queue.in_work() if work.seconds > stuck_s]


def service_checks(life: Life) -> dict[str, str | None]:
    """One by the name of each service that says more of itself than that it runs."""
    found: dict[str, str | None] = {}
    for service in life.services:
        since_s = life.starting_s(service.name)
        starting = None if since_s is None else f"has been starting for {since_s:.0f} s"
        found[service.name] = service.fault() or starting
    return found


def election_checks(elections: Elections | None) -> dict[str, str | None]:
    """``leader-election``, if there is one: standing by is well."""
    return {} if elections is None else {"leader-election": elections.fault()}


def queues(controllers: Iterable[Controller[Resource]], stuck_s: float | None) -> dict[str, object]:
    """Each controller's phase and queue, by name, for people who look into a running manager."""
    return {controller.name: _described(controller, stuck_s) for controller in controllers}


def _described(controller: Controller[Resource], stuck_s: float | None) -> dict[str, object]:
    about: dict[str, object] = {"phase": str(controller.phase), "concurrency": controller.concurrency}
    if controller.running:
        held = controller.queue.snapshot()
        for name, waiting in (("ready", held.ready), ("delayed", held.delayed), ("processing", held.processing)):
            about[name] = [
                {"key": str(each.key), "priority": each.priority, "seconds": round(each.seconds, 3)} for each in waiting
            ]
        about["stuck"] = [str(key) for key, _ in stuck_keys(controller, stuck_s)]
    return about


def caches(informers: Iterable[Informer[Resource]], crd_remedy: str) -> list[dict[str, object]]:
    """What each informer holds and how fresh it is."""
    return [
        {
            "kind": str(informer.kind.resource_type.group_kind),
            "namespaces": sorted(informer.namespaces) if informer.namespaces is not None else None,
            "objects": len(informer.store),
            "synced": informer.synced,
            "last_heard_s": _rounded(_age_s(informer)),
            "fault": informer_fault(informer, crd_remedy),
        }
        for informer in informers
    ]


def _age_s(informer: Informer[Resource]) -> float | None:
    last = informer.last_progress_at
    return None if last is None else asyncio.get_running_loop().time() - last


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
