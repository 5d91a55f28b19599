"""The form of a Hugging Face id."""

import re

MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""ORGANISATION/MODEL; to be matched in full. Neither part can be ``..``, so that it stays within its place in a URL."""
