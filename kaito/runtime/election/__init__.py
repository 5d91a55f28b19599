"""Leader election: one Lease per controller, a renewer that work cannot starve, and a fence around writes."""

from kaito.runtime.election.fence import (
    Fence,
    check_leadership,
    current_fence,
    enter_fence,
    fence_writes,
    run_in_fence,
)
from kaito.runtime.election.lease_elections import LeaseElections, elections_of
from kaito.runtime.election.options import LeaderElection

__all__ = [
    "Fence",
    "LeaderElection",
    "LeaseElections",
    "check_leadership",
    "current_fence",
    "elections_of",
    "enter_fence",
    "fence_writes",
    "run_in_fence",
]
