"""KAITO's controllers: workspace, machine, gpu-provisioner."""

from kaito.controllers.operator import ALL_CONTROLLERS, OperatorOptions, add_operator

__all__ = ["ALL_CONTROLLERS", "OperatorOptions", "add_operator"]
