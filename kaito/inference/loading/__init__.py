"""From a folder or a Hugging Face id to a model in memory."""

from kaito.inference.loading.loader import LoadedModel, find_model, load_model, load_tokenizer
from kaito.inference.progress import DownloadProgress

__all__ = ["DownloadProgress", "LoadedModel", "find_model", "load_model", "load_tokenizer"]
