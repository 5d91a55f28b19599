"""kaito chat: a conversation with the model of a Workspace, from wherever the API server can be reached."""
