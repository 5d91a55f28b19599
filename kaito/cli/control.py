"""What a model may say that a terminal would take for a command."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but the tab and the end of a line: a model must not move the cursor, or do worse."""
