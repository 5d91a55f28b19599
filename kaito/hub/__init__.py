"""What a model hub knows of models that are not in the catalogue: Hugging Face's, or one that speaks its API."""

from kaito.hub.errors import HubError, HubUnavailable, ModelUnusable, NoSuchModel
from kaito.hub.model_id import MODEL_ID
from kaito.hub.resolver import Hub, HubToken

__all__ = ["MODEL_ID", "Hub", "HubError", "HubToken", "HubUnavailable", "ModelUnusable", "NoSuchModel"]
