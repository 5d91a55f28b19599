"""kaito quickstart: from nothing to an answer on this machine, in front of the user's eyes, then clean-up."""
