"""Container registries: references, credentials, pull and push over the registry API, layers that can be made again."""
