"""Prints requirements/inference.lock without torch and what torch on CUDA needs, for images that get torch elsewhere.

    python requirements/without_torch.py                     torch is in the base image
    python requirements/without_torch.py torch-….whl         that wheel is installed instead

The line of another wheel has its hash, so that an image is installed from what was downloaded, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("inference.lock")
_TORCH = re.compile(r"(torch|triton|nvidia-(?!ml-py\b).+|cuda-(bindings|pathfinder|toolkit))==")


def main(wheels: list[str]) -> str:
    """The lock, with these wheels instead."""
    # An entry is its first line and the indented ones that follow it: its hashes.
    entries = re.split(r"(?m)^(?=\S)", LOCK.read_text())
    return "".join([entry for entry in entries if not _TORCH.match(entry)] + [_entry(Path(wheel)) for wheel in wheels])


def _entry(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
