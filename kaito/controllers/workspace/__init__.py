"""Workspace -> claims -> workload and Service -> status."""
