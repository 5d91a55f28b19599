"""What a Workspace does with its nodes: serve a model (``inference``) or fine-tune one (``tuning``)."""

from typing import Annotated, ClassVar

from kaito.api.data_url import DataURL
from kaito.api.images import ConfigMapName, ImageReference, SecretName
from kaito.api.text_rules import form, found, no_placeholder
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
        image: an image with the model in it, such as myregistry.azurecr.io/models/mine:1. Deprecated: weights are
            downloaded now.
        image_pull_secrets: names of up to 10 Secrets to pull that image with. Deprecated like the image.
        model_access_secret: the Secret in the same namespace whose key HF_TOKEN holds a Hugging Face token; needed for
            models behind a licence that has to be accepted first.
    """

    image: ImageReference | None = None
    image_pull_secrets: Annotated[tuple[SecretName, ...], Limits(max_items=10)] = ()
    model_access_secret: SecretName | None = None


class PresetSpec(KubeModel):
    """A model that comes with all that it takes to run it. Cannot be changed later.

    Attributes:
        name: a name that kaito models lists, such as phi-3-mini-4k-instruct, or a Hugging Face id such as
            microsoft/Phi-3-mini-4k-instruct.
        access_mode: public or private: whether the image is everybody's. Deprecated and without effect.
        preset_options: where the image and the weights are had from; needed only for models behind a licence.
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
        name: what to call the data, for people, at most 63 characters. Cannot be changed later.
        urls: 1 to 100 addresses of files to download, http or https, such as https://example.com/data.parquet; none of
            this machine, a private network or a cloud's metadata service.
        volume_source: a volume as in a pod, such as persistentVolumeClaim: {claimName: data}.
        image: an image whose folder /data holds the files, such as myregistry.azurecr.io/data/mine:1.
        image_pull_secrets: names of up to 10 docker-registry Secrets in the same namespace to pull the image with.
    """

    name: Annotated[str, Limits(max_length=63)] = ""
    urls: Annotated[tuple[DataURL, ...], Limits(min_items=1, max_items=100)] = ()
    volume_source: OpenObject | None = None
    image: ImageReference | None = None
    image_pull_secrets: Annotated[tuple[SecretName, ...], Limits(max_items=10)] = ()


class AdapterSource(DataSource):
    """Where an adapter comes from: a volume or an image; exactly one of them.

    Attributes:
        name: the adapter's name, by which requests choose it: lower case letters, digits and '-'. Each its own.
        urls: not for adapters, which come from an image or a volume; there because training data has it.
        volume_source: a volume as in a pod that holds the adapter's files, such as persistentVolumeClaim:
            {claimName: adapters}.
        image: an image whose folder /data holds adapter_config.json and adapter_model.safetensors, such as
            myregistry.azurecr.io/adapters/mine:1.
        image_pull_secrets: names of up to 10 docker-registry Secrets in the same namespace to pull the image with.
    """

    name: Annotated[
        str,
        Limits(max_length=63),
        no_placeholder("a name for the adapter"),
        form(
            "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "not the name of an adapter: use lower case letters, digits and '-', with a letter or digit at both ends",
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
        volume_source: a volume as in a pod to write the adapter to, such as persistentVolumeClaim: {claimName: out}.
        image: the image to push the adapter as, such as myregistry.azurecr.io/adapters/mine:1; needs imagePushSecret.
        image_push_secret: the Secret of type kubernetes.io/dockerconfigjson in the same namespace to push it with.
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
    """A LoRA adapter on top of the preset's model.

    Attributes:
        source: the image or volume that holds the adapter; its name is the adapter's.
        strength: how much of the adapter is mixed in: a decimal from 0 (nothing) to 1 (all of it) in quotes, such as
            "0.8"; all of it when not given.
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
        preset: the model to serve, with an image and settings that suit it. Cannot be changed later.
        template: a pod template (as in a Deployment) with a server of your own on port 5000, used instead of a preset.
        config: the ConfigMap in the same namespace whose key inference_config.yaml sets the runtime up.
        adapters: up to 10 LoRA adapters on top of the preset's model. Can be changed at any time.
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
        preset: the model to fine-tune. Cannot be changed later.
        method: lora, or qlora, which holds the model in 4 bits and needs less memory; in any case of letters. Cannot be
            changed later.
        config: the ConfigMap in the same namespace whose key training_config.yaml sets the training up; without it,
            one that suits the method.
        input: the training data: exactly one of urls, image and volumeSource.
        output: where the adapter goes that training makes: exactly one of image and volumeSource.
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
