"""Admission: what can be known to be wrong with a Workspace before anything is made or paid for."""

from kaito.controllers.workspace.admission.webhook import AdmissionOptions, workspace_webhooks

__all__ = ["AdmissionOptions", "workspace_webhooks"]
