"""`kaito` as in a pod whose service account is mounted elsewhere: ``launcher.py FOLDER ARGUMENTS…``."""

from __future__ import annotations

import sys
from pathlib import Path

from kaito.cli.main import main
from kaito.client import config

if __name__ == "__main__":
    config.SERVICE_ACCOUNT_DIR = Path(sys.argv.pop(1))
    main()
