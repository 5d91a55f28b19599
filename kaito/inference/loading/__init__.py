"""From a folder or a Hugging Face id to a model in memory."""

from kaito.inference.loading.loader import LoadedModel, load_model

__all__ = ["LoadedModel", "load_model"]
