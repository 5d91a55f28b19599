"""Nodes of the grade `process`: an agent runs the pods bound to them as processes of this machine, without root."""
