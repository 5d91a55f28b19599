"""A Kubernetes on this machine: real control-plane programs as child processes, no container engine needed."""
