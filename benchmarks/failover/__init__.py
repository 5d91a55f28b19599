"""P10: how soon a standby works after its leader was killed, and after it was stopped."""
