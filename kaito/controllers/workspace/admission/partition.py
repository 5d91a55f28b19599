"""Partition: shares of GPUs, which a Workspace can ask for and nothing makes yet."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.controllers.workspace.admission.case import Case
from kaito.controllers.workspace.admission.findings import Finding, meant
from kaito.runtime.webhook import forbidden, invalid

PARTITION = "resource.partition"

# NVIDIA's MIG user guide, by the memory of the GPU: A30; A100 40 GB; 80 GB parts; H100 94 and 96 GB; H200; B200.
MIG_PROFILES = (
    *("1g.6gb", "2g.12gb", "4g.24gb"),
    *("1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"),
    *("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
    *("1g.12gb", "1g.24gb", "2g.24gb", "3g.47gb", "4g.47gb", "7g.94gb", "3g.48gb", "4g.48gb", "7g.96gb"),
    *("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"),
    *("1g.23gb", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"),
)


def partition(case: Case) -> Iterable[Finding]:
    """They are not built yet. That they are of single existing nodes, for serving, the CRD's rules say."""
    given = case.asked.partition
    if given is None:
        return
    yield forbidden(PARTITION, "not part of this version: leave it out, and each pod gets a whole node")
    profile = given.get("profile")
    if given.get("mode") == "mig" and isinstance(profile, str) and profile and profile not in MIG_PROFILES:
        near = meant(profile, MIG_PROFILES)
        yield invalid(f"{PARTITION}.profile", profile, f"not a MIG profile, such as 1g.10gb or 3g.40gb{near}")
