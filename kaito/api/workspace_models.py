"""What a Workspace does with its nodes: serve a model (``inference``) or fine-tune one (``tuning``)."""

from typing import Annotated, ClassVar

from kaito.api.data_url import DataURL
from kaito.api.images import ConfigMapName, ImageReference, SecretName
from kaito.api.text_rules import DNS_SUBDOMAIN, form, found, no_placeholder
from kaito.api.workspace_rules import (
    kept,
    lower_ascii,
    needed,
    one_at_least,
    one_at_most,
    same_text,
    unchanged,
    unwanted,
)
from kaito.kube.frozen import FrozenJson, FrozenMap
from kaito.kube.model import KubeModel
from kaito.kube.schema_markers import Enum, Limits, OpenSchema, Rule

_STRENGTH = "^(0|0?[.][0-9]+|0[.]|1|1[.]0*)$"
_is_strength = found(_STRENGTH)
_PART_OF_ID = "[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?"

OpenObject = Annotated[FrozenMap[str, FrozenJson], OpenSchema()]
"""An object whose schema is Kubernetes' own, to the letter as it is stored.

Read as a model it would lose its nulls, and a faulty one would make the Workspace unreadable that it is in, which then
could not even be deleted. Whoever needs its fields reads it by itself: ``PodTemplateSpec.model_validate(template)``.
"""


class PresetOptions(KubeModel):
    """Where a preset's image and weights are had from.

    Attributes:
        image: an image with the model in it, such as myregistry.azurecr.io/models/mine:1. Deprecated and without
            effect: weights are downloaded.
        image_pull_secrets: names of up to 10 Secrets to pull that image with. Deprecated and without effect.
        model_access_secret: the name of a Secret in the same namespace whose key HF_TOKEN holds a Hugging Face token.
            Required for models behind a licence (see kaito models --gated): accept it with the token's account first.
    """

    image: ImageReference | None = None
    image_pull_secrets: Annotated[tuple[SecretName, ...], Limits(max_items=10)] = ()
    model_access_secret: SecretName | None = None


class PresetSpec(KubeModel):
    """A model that comes with all that it takes to run it. Cannot be changed later.

    Attributes:
        name: the model: a name that kaito models lists, such as phi-3-mini-4k-instruct, in any case of letters, or a
            Hugging Face id, ORGANISATION/MODEL, such as microsoft/Phi-3-mini-4k-instruct. At most 256 characters.
        access_mode: whether everybody may pull the model's image: public (the default) or private. Deprecated and
            without effect.
        preset_options: how the model is got at. Needed for models behind a licence only.
    """

    name: Annotated[
        str,
        Limits(min_length=1, max_length=256),
        no_placeholder("a model that kaito models lists"),
        form(
            f"^{_PART_OF_ID}(/{_PART_OF_ID})?$",
            "not the name of a model: give one that kaito models lists, such as phi-3-mini-4k-instruct, "
            "or a Hugging Face id, ORGANISATION/MODEL",
        ),
    ]
    access_mode: Annotated[str, Enum("public", "private")] = "public"
    preset_options: PresetOptions | None = None


class DataSource(KubeModel):
    """Where training data comes from: addresses, a volume or an image; exactly one of them.

    Attributes:
        name: what to call the data, for people only; at most 63 characters. Cannot be changed later.
        urls: addresses of 1 to 100 files to download by http or https, such as https://example.com/data.parquet.
            Addresses of the machine itself, of private networks and of a cloud's metadata service are refused.
        volume_source: a volume that holds the files, written as in a pod, such as persistentVolumeClaim:
            {claimName: data}.
        image: an image whose folder /data holds the files, such as myregistry.azurecr.io/data/mine:1.
        image_pull_secrets: names of up to 10 docker-registry Secrets in the same namespace to pull the image with.
            Without any, everybody must be allowed to pull it.
    """

    name: Annotated[str, Limits(max_length=63)] = ""
    urls: Annotated[tuple[DataURL, ...], Limits(min_items=1, max_items=100)] = ()
    volume_source: OpenObject | None = None
    image: ImageReference | None = None
    image_pull_secrets: Annotated[tuple[SecretName, ...], Limits(max_items=10)] = ()


class AdapterSource(DataSource):
    """Where an adapter comes from: a volume or an image; exactly one of them.

    Attributes:
        name: the adapter's name, by which requests choose it: at most 63 lower case letters, digits, '-' and '.'.
            Required, and unlike those of the other adapters.
        urls: not for adapters: refused if given. An adapter comes from an image or a volume.
        volume_source: a volume that holds the adapter's files, adapter_config.json and adapter_model.safetensors, at
            its top; written as in a pod, such as persistentVolumeClaim: {claimName: adapters}.
        image: an image whose folder /data holds adapter_config.json and adapter_model.safetensors, such as
            myregistry.azurecr.io/adapters/mine:1.
        image_pull_secrets: names of up to 10 docker-registry Secrets in the same namespace to pull the image with.
            Without any, everybody must be allowed to pull it.
    """

    name: Annotated[
        str,
        Limits(max_length=63),
        no_placeholder("a name for the adapter"),
        form(
            f"^{DNS_SUBDOMAIN}$",
            "not the name of an adapter: use lower case letters, digits, '-' and '.', a letter or digit at both ends",
        ),
    ] = ""
    # Without the rules of addresses: for ten adapters with a hundred each they would be over the API server's budget.
    urls: Annotated[tuple[str, ...], Limits(max_items=100)] = ()

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        needed(
            "has(self.name)",
            "name",
            "an adapter needs source.name, such as phi-3-adapter",
            holds=lambda source: "name" in source,
        ),
        unwanted(
            "!has(self.urls)",
            "urls",
            "urls are for training data; an adapter comes from source.image or source.volumeSource",
            holds=lambda source: "urls" not in source,
        ),
        one_at_least(
            "image",
            "volumeSource",
            "urls",
            message="an adapter comes from exactly one of source.image and source.volumeSource; none is there",
        ),
        one_at_most(
            "image",
            "volumeSource",
            message="an adapter comes from exactly one of source.image and source.volumeSource",
            blamed="volumeSource",
        ),
    )


class DataDestination(KubeModel):
    """Where results go: a volume or an image; exactly one of them.

    Attributes:
        volume_source: a volume to write the adapter to, as in a pod, such as persistentVolumeClaim: {claimName: out}.
        image: the image to push the adapter as, such as myregistry.azurecr.io/adapters/mine:1. Needs imagePushSecret.
        image_push_secret: the name of a docker-registry Secret (type kubernetes.io/dockerconfigjson) in the same
            namespace that may push the image.
    """

    volume_source: OpenObject | None = None
    image: ImageReference | None = None
    image_push_secret: SecretName | None = None

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        one_at_least("image", "volumeSource", message="give exactly one destination, image or volumeSource"),
        one_at_most(
            "image",
            "volumeSource",
            message="give exactly one destination, image or volumeSource",
            blamed="volumeSource",
        ),
        needed(
            "!has(self.image) || has(self.imagePushSecret)",
            "imagePushSecret",
            "an image needs imagePushSecret: the name of a docker-registry Secret that may push to it",
            holds=lambda output: "image" not in output or "imagePushSecret" in output,
        ),
    )


class AdapterSpec(KubeModel):
    """A LoRA adapter, which requests choose by its name.

    Attributes:
        source: the image or volume that holds the adapter, and the adapter's name.
        strength: how much of the adapter is mixed in: a decimal from "0" (nothing) to "1" (all of it), in quotes, such
            as "0.8". Default: all of it.
    """

    source: AdapterSource
    strength: Annotated[
        str | None,
        Limits(max_length=16),
        Rule(
            f"self.matches('{_STRENGTH}')",
            "not a strength: write a decimal from 0 to 1 in quotes",
            """'"' + self + '" is not a strength: write a decimal from 0 to 1, such as "0.8"'""",
            holds=lambda value, _old: _is_strength(value),
        ),
    ] = None


_UNNAMED_OR_ALONE = "!has(a.source.name) || self.exists_one(b, has(b.source.name) && b.source.name == a.source.name)"


def _own_names(adapters: list[dict[str, dict[str, str]]]) -> bool:
    names = [adapter["source"]["name"] for adapter in adapters if "name" in adapter.get("source", {})]
    return len(set(names)) == len(names)


Adapters = Annotated[
    tuple[AdapterSpec, ...],
    Limits(max_items=10),
    Rule(
        f"self.all(a, {_UNNAMED_OR_ALONE})",
        "two adapters have one source.name: give each its own",
        holds=lambda value, _old: _own_names(value),
    ),
]


class InferenceSpec(KubeModel):
    """A model to serve: a preset, or a pod template of the user's own.

    Attributes:
        preset: the model to serve, with a server and settings that suit it. Exactly one of preset and template is
            given. Cannot be changed later.
        template: a pod template, as in a Deployment, with a server of your own that listens on port 5000. Exactly one
            of preset and template is given, and the other cannot take its place later.
        config: the name of a ConfigMap in the same namespace whose key inference_config.yaml sets the runtime up, such
            as vllm: {max-model-len: 8192}. Default: settings that suit the model.
        adapters: up to 10 LoRA adapters on top of the preset's model; not with a template. Can be changed at any time,
            which starts the server anew.
    """

    preset: Annotated[PresetSpec | None, unchanged("the preset")] = None
    template: OpenObject | None = None
    config: ConfigMapName | None = None
    adapters: Adapters = ()

    cel_rules: ClassVar[tuple[Rule, ...]] = (
        one_at_least(
            "preset", "template", message="give exactly one of preset and template; none is there", blamed="preset"
        ),
        one_at_most("preset", "template", message="give exactly one of preset and template", blamed="template"),
        kept("preset"),
        kept("template"),
        unwanted(
            "!has(self.template) || !has(self.adapters) || size(self.adapters) == 0",
            "adapters",
            "adapters need a preset, not a template",
            holds=lambda inference: "template" not in inference or not inference.get("adapters"),
        ),
    )


class TuningSpec(KubeModel):
    """A model to fine-tune.

    Attributes:
        preset: the model to fine-tune (see kaito models --tunable). Cannot be changed later.
        method: how to fine-tune: lora, or qlora, which holds the model in 4 bits and needs less GPU memory. In any case
            of letters. Cannot be changed later.
        config: the name of a ConfigMap in the same namespace whose key training_config.yaml sets the training up.
            Default: settings that suit the method.
        input: where the training data comes from: exactly one of urls, image and volumeSource.
        output: where the adapter that training makes goes: exactly one of image and volumeSource.
    """

    preset: Annotated[PresetSpec, unchanged("the preset")]
    method: Annotated[
        str,
        Limits(max_length=16),
        Rule(
            "self.lowerAscii() in ['lora', 'qlora']",
            "not a tuning method: choose lora or qlora",
            holds=lambda value, _old: lower_ascii(value) in ("lora", "qlora"),
        ),
    ]
    config: ConfigMapName | None = None
    input: Annotated[
        DataSource,
        one_at_least(
            "urls", "image", "volumeSource", message="give exactly one source of data, urls, image or volumeSource"
        ),
        one_at_most(
            "urls", "image", "volumeSource", message="give exactly one source of data, urls, image or volumeSource"
        ),
        same_text("name"),
    ]
    output: DataDestination

    cel_rules: ClassVar[tuple[Rule, ...]] = (same_text("method", letters_count=False),)
