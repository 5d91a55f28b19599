"""Container registries: references, credentials, pull and push over the registry API, layers that can be made again.

    async with Registry(Reference.parse("localhost:5000/adapters/legal:1"), load_keyring()) as registry:
        image = await resolve(registry)
        blobs = await fetch(registry, image.manifest.layers, Path("blobs"))
        unpack(image.manifest, blobs, Path("adapter"), path="/data")

It needs aiohttp and pydantic, and nothing else of the operator.
"""
