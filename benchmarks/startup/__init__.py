"""P8: how soon `kaito manager` works after its process has started, and what it holds when it has nothing to do."""
