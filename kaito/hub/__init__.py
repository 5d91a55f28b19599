"""What a model hub knows of models that are not in the catalogue."""
