"""The runtime `vllm`: vLLM's own server as a child process, behind our routes.

`kaito.inference.vllm.runtime` has the runtime itself; it is not imported here, as it takes seconds.
"""

from kaito.inference.vllm.options import VllmOptions, args_of_config

__all__ = ["VllmOptions", "args_of_config"]
