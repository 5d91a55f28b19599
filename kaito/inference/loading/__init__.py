"""From a folder or a Hugging Face id to a model in memory."""

from kaito.inference.loading.loader import LoadedModel, load_model
from kaito.inference.loading.progress import DownloadProgress

__all__ = ["DownloadProgress", "LoadedModel", "load_model"]
