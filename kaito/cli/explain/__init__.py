"""kaito explain: what there is of a Workspace, as a tree, and which leaf of it is to blame."""
