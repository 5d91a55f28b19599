"""The catalogue: models that a Workspace can name, and the GPU instance types that can serve them."""

from kaito.catalog.catalog import Catalog
from kaito.catalog.current import CurrentCatalog
from kaito.catalog.errors import CatalogError, UnknownGpu, UnknownModel, UnknownSku
from kaito.catalog.gpu_sku import Dtype, Gpu, GpuSku, Vendor
from kaito.catalog.model_preset import Attention, ModelPreset, Network, Runtime, TuningMethod, TuningNeeds
from kaito.catalog.nearest import did_you_mean

__all__ = [
    "Attention",
    "Catalog",
    "CatalogError",
    "CurrentCatalog",
    "Dtype",
    "Gpu",
    "GpuSku",
    "ModelPreset",
    "Network",
    "Runtime",
    "TuningMethod",
    "TuningNeeds",
    "UnknownGpu",
    "UnknownModel",
    "UnknownSku",
    "Vendor",
    "did_you_mean",
]
