"""P6: reconciles that find nothing to do, end to end, ours and controller-runtime's."""
