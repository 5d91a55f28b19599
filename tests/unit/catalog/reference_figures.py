"""KAITO's own figures, typed again, for the tests to hold the catalogue and the sizing against."""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """A row of KAITO 0.12's catalogue, and the nodes that its estimator gives on `NODE_SHAPES` at 2048 tokens."""

    huggingface_id: str
    weights_gib: float
    context_tokens: int
    attention: str
    kv_bytes_per_token: int
    disk_gib: float
    timeout_minutes: int
    tool_call_parser: str | None
    reasoning_parser: str | None
    license: str
    nodes: tuple[int, ...]


NODE_SHAPES = ((1, 24), (1, 80), (4, 80), (8, 80), (8, 141))
"""GPUs of a node, and GiB of each."""

_TABLE = """
|microsoft/phi-4|27.31|16384|GQA|204800|107|30|-|-|mit|2/1/1/1/1|
|microsoft/Phi-4-mini-instruct|7.15|131072|GQA|131072|87|30|-|-|mit|1/1/1/1/1|
|deepseek-ai/DeepSeek-R1-Distill-Llama-8B|14.96|131072|GQA|131072|94|30|deepseek_v3|deepseek_r1|mit|1/1/1/1/1|
|deepseek-ai/DeepSeek-R1-Distill-Qwen-14B|27.51|131072|GQA|196608|107|30|deepseek_v3|deepseek_r1|mit|2/1/1/1/1|
|microsoft/Phi-3-mini-4k-instruct|7.12|4096|MHA|393216|87|30|-|-|mit|1/1/1/1/1|
|microsoft/Phi-3-mini-128k-instruct|7.12|131072|MHA|393216|87|30|-|-|mit|1/1/1/1/1|
|microsoft/Phi-3-medium-4k-instruct|26|4096|GQA|204800|106|30|-|-|mit|2/1/1/1/1|
|microsoft/Phi-3-medium-128k-instruct|26|131072|GQA|204800|106|30|-|-|mit|2/1/1/1/1|
|microsoft/Phi-3.5-mini-instruct|7.12|131072|MHA|393216|87|30|-|-|mit|1/1/1/1/1|
|Qwen/Qwen2.5-Coder-7B-Instruct|14.19|32768|GQA|57344|94|30|hermes|-|apache-2.0|1/1/1/1/1|
|Qwen/Qwen2.5-Coder-32B-Instruct|61.03|32768|GQA|262144|141|33|hermes|-|apache-2.0|4/2/1/1/1|
|openai/gpt-oss-20b|25.63|131072|GQA|49152|105|30|openai|openai_gptoss|apache-2.0|2/1/1/1/1|
|openai/gpt-oss-120b|121.54|131072|GQA|73728|201|51|openai|openai_gptoss|apache-2.0|8/3/1/1/1|
|meta-llama/Llama-3.1-8B-Instruct|14.96|131072|GQA|131072|94|30|llama3_json|-|llama3.1|1/1/1/1/1|
|meta-llama/Llama-3.3-70B-Instruct|131.42|131072|GQA|327680|211|54|llama3_json|-|llama3.3|9/3/1/1/1|
|mistralai/Mistral-7B-v0.3|13.5|32768|GQA|131072|93|30|mistral|-|apache-2.0|1/1/1/1/1|
|mistralai/Mistral-7B-Instruct-v0.3|13.5|32768|GQA|131072|93|30|mistral|-|apache-2.0|1/1/1/1/1|
|mistralai/Ministral-3-3B-Instruct-2512|4.35|262144|GQA|106496|84|30|-|-|apache-2.0|1/1/1/1/1|
|mistralai/Ministral-3-8B-Instruct-2512|9.7|262144|GQA|139264|89|30|-|-|apache-2.0|1/1/1/1/1|
|mistralai/Ministral-3-14B-Instruct-2512|14.65|262144|GQA|163840|94|30|-|-|apache-2.0|1/1/1/1/1|
|google/gemma-3-4b-it|8.01|131072|GQA|139264|88|30|functiongemma|-|gemma|1/1/1/1/1|
|google/gemma-3-27b-it|51.1|131072|GQA|507904|131|30|functiongemma|-|gemma|4/1/1/1/1|
|deepseek-ai/DeepSeek-R1-0528|641.3|163840|MLA|70272|721|180|deepseek_v3|deepseek_r1|mit|39/11/3/2/1|
|deepseek-ai/DeepSeek-V3-0324|641.3|163840|MLA|70272|721|180|deepseek_v3|deepseek_v3|mit|39/11/3/2/1|
|mistralai/Mistral-Large-3-675B-Instruct-2512|634.7|294912|MLA|70272|714|180|mistral|-|apache-2.0|39/11/3/2/1|
|nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16|230.25|262144|GQA|90112|310|84|qwen3_coder|nemotron_v3|nvidia-nemotron-open-model-license|14/4/1/1/1|
|nvidia/Nemotron-Cascade-2-30B-A3B|58.82|262144|GQA|53248|138|33|qwen3_coder|nemotron_v3|nvidia-open-model-license|4/1/1/1/1|
|nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16|58.82|262144|GQA|53248|138|33|qwen3_coder|nemotron_v3|nvidia-nemotron-open-model-license|4/1/1/1/1|
|nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16|24.55|131072|GQA|253952|104|30|qwen3_coder|nemotron_v3|nvidia-open-model-license|2/1/1/1/1|
|nvidia/NVIDIA-Nemotron-Nano-9B-v2|16.56|131072|GQA|229376|96|30|qwen3_coder|nemotron_v3|nvidia-open-model-license|2/1/1/1/1|
|nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16|7.4|262144|GQA|172032|87|30|qwen3_coder|nemotron_v3|nvidia-nemotron-open-model-license|1/1/1/1/1|
|Qwen/Qwen3-8B-AWQ|5.68|40960|GQA|147456|85|30|hermes|qwen3|apache-2.0|1/1/1/1/1|
|google/gemma-4-31B-it|58.25|262144|GQA|983040|138|32|gemma4|gemma4|apache-2.0|4/1/1/1/1|
|google/gemma-4-26B-A4B-it|48.07|262144|GQA|245760|128|30|gemma4|gemma4|apache-2.0|3/1/1/1/1|
|google/gemma-4-E4B-it|14.89|131072|GQA|86016|94|30|gemma4|gemma4|apache-2.0|1/1/1/1/1|
|google/gemma-4-E2B-it|9.54|131072|MQA|35840|89|30|gemma4|gemma4|apache-2.0|1/1/1/1/1|
|mistralai/Mistral-Small-4-119B-2603|112.63|1048576|MLA|23040|192|49|mistral|mistral|apache-2.0|7/2/1/1/1|
|mistralai/Mistral-Small-4-119B-2603-NVFP4|65.95|1048576|MLA|23040|145|35|mistral|mistral|apache-2.0|4/2/1/1/1|
|Qwen/Qwen3.5-2B|4.24|262144|GQA|49152|84|30|qwen3_coder|qwen3|apache-2.0|1/1/1/1/1|
|Qwen/Qwen3.5-4B|8.68|262144|GQA|131072|88|30|qwen3_coder|qwen3|apache-2.0|1/1/1/1/1|
|Qwen/Qwen3.5-9B|17.98|262144|GQA|131072|97|30|qwen3_coder|qwen3|apache-2.0|2/1/1/1/1|
|Qwen/Qwen3.5-122B-A10B-GPTQ-Int4|73.47|262144|GQA|98304|153|37|qwen3_coder|qwen3|apache-2.0|5/2/1/1/1|
|Qwen/Qwen3.5-122B-A10B|232.99|262144|GQA|98304|312|85|qwen3_coder|qwen3|apache-2.0|15/4/1/1/1|
|Qwen/Qwen3.6-35B-A3B-FP8|34.9|262144|GQA|81920|114|30|qwen3_coder|qwen3|apache-2.0|3/1/1/1/1|
|Qwen/Qwen3.6-35B-A3B|66.97|262144|GQA|81920|146|35|qwen3_coder|qwen3|apache-2.0|5/2/1/1/1|
|Qwen/Qwen3.6-27B|51.75|262144|GQA|262144|131|31|qwen3_coder|qwen3|apache-2.0|4/1/1/1/1|
|Qwen/Qwen3.5-397B-A17B-GPTQ-Int4|219.56|262144|GQA|122880|299|81|qwen3_coder|qwen3|apache-2.0|14/4/1/1/1|
|moonshotai/Kimi-K2.5|554.32|262144|MLA|70272|634|180|kimi_k2|kimi_k2|modified-mit|34/10/3/2/1|
|moonshotai/Kimi-K2.6|554.32|262144|MLA|70272|634|180|kimi_k2|kimi_k2|modified-mit|34/10/3/2/1|
|MiniMaxAI/MiniMax-M2.7|214.34|204800|GQA|253952|294|79|minimax_m2|minimax_m2_append_think|other|14/4/1/1/1|
|mistralai/Mistral-Medium-3.5-128B|124.43|262144|GQA|360448|204|52|mistral|mistral|other|8/3/1/1/1|
|deepseek-ai/DeepSeek-V4-Flash-0731|155.43|1048576|MQA|88064|235|62|deepseek_v4|deepseek_v4|mit|10/3/1/1/1|
|deepseek-ai/DeepSeek-V4-Pro|805.34|1048576|MQA|124928|885|180|deepseek_v4|deepseek_v4|mit|49/14/4/2/1|
|google/gemma-4-12B-it|22.28|262144|GQA|393216|102|30|gemma4|gemma4|apache-2.0|2/1/1/1/1|
|zai-org/GLM-5.2-FP8|703.75|1048576|MLA|89856|783|180|glm47|glm45|mit|43/12/3/2/1|
|moonshotai/Kimi-K2.7-Code|554.32|262144|MLA|70272|634|180|kimi_k2|kimi_k2|modified-mit|34/10/3/2/1|
|nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4|328.13|262144|GQA|110592|408|113|qwen3_coder|nemotron_v3|openmdw-1.1|20/6/2/1/1|
|deepseek-ai/DeepSeek-V3.2|642.14|163840|MLA|70272|722|180|deepseek_v32|deepseek_v3|mit|39/11/3/2/1|
|ibm-granite/granite-4.1-8b|16.38|131072|GQA|163840|96|30|granite4|granite|apache-2.0|1/1/1/1/1|
|Qwen/Qwen3.8-27B|51.75|262144|GQA|262144|131|31|qwen3_coder|qwen3|apache-2.0|4/1/1/1/1|
"""


def _row(line: str) -> Reference:
    name, weights, context, attention, kv, disk, minutes, tool, reasoning, licence, nodes = line.strip("|").split("|")
    return Reference(
        name,
        float(weights),
        int(context),
        attention,
        int(kv),
        float(disk),
        int(minutes),
        None if tool == "-" else tool,
        None if reasoning == "-" else reasoning,
        licence,
        tuple(map(int, nodes.split("/"))),
    )


CATALOG_0_12 = tuple(map(_row, _TABLE.split()))

_ALIASES = """
phi-4 phi-4-mini-instruct llama-3.1-8b-instruct llama-3.3-70b-instruct deepseek-r1-distill-llama-8b
deepseek-r1-distill-qwen-14b deepseek-r1-0528 deepseek-v3-0324 phi-3-mini-4k-instruct phi-3-mini-128k-instruct
phi-3-medium-4k-instruct phi-3-medium-128k-instruct phi-3.5-mini-instruct qwen2.5-coder-7b-instruct
qwen2.5-coder-32b-instruct gpt-oss-20b gpt-oss-120b gemma-3-4b-instruct gemma-3-27b-instruct mistral-7b
mistral-7b-instruct ministral-3-3b-instruct ministral-3-8b-instruct ministral-3-14b-instruct
mistral-large-3-675b-instruct
"""
ALIASES = _ALIASES.split()
"""The short names that KAITO 0.12 still takes."""

# Of KAITO 0.6 (Llama 2: 0.1 to 0.3): GPUs, GPU memory in all, and of tuning: disk, GPU memory in all and of each GPU.
PRESETS_0_6: dict[str, tuple[int, float, tuple[float, float, float] | None]] = {
    "falcon-7b": (1, 14, (90, 16, 16)),
    "falcon-7b-instruct": (1, 14, None),
    "falcon-40b": (2, 90, (280, 90, 16)),
    "falcon-40b-instruct": (2, 90, None),
    "mistral-7b": (1, 14, (90, 16, 16)),
    "mistral-7b-instruct": (1, 16, None),
    "phi-2": (1, 12, (80, 16, 16)),
    "phi-3-mini-4k-instruct": (1, 9, (80, 72, 72)),
    "phi-3-mini-128k-instruct": (1, 9, (80, 72, 72)),
    "phi-3.5-mini-instruct": (1, 8, (70, 72, 72)),
    "phi-3-medium-4k-instruct": (1, 28, (120, 80, 80)),
    "phi-3-medium-128k-instruct": (1, 28, (120, 80, 80)),
    "phi-4": (1, 40, (150, 70, 70)),
    "phi-4-mini-instruct": (1, 8, (70, 72, 72)),
    "qwen2.5-coder-7b-instruct": (1, 24, (110, 24, 24)),
    "qwen2.5-coder-32b-instruct": (1, 70, (230, 140, 70)),
    "deepseek-r1-distill-llama-8b": (1, 16.5, None),
    "deepseek-r1-distill-qwen-14b": (1, 25.7, None),
    "deepseek-r1-0528": (1, 960, None),
    "deepseek-v3-0324": (1, 960, None),
    "llama-3.1-8b-instruct": (1, 22, None),
    "llama-3.3-70b-instruct": (4, 320, None),
    "llama-2-7b": (1, 14, None),
    "llama-2-7b-chat": (1, 16, None),
    "llama-2-13b": (2, 30, None),
    "llama-2-13b-chat": (2, 30, None),
    "llama-2-70b": (8, 152, None),
    "llama-2-70b-chat": (8, 192, None),
}

_TRANSFORMERS = """
phi-4 phi-3-mini-4k-instruct phi-3-mini-128k-instruct phi-3-medium-4k-instruct phi-3-medium-128k-instruct
phi-3.5-mini-instruct mistral-7b-v0.3 mistral-7b-instruct-v0.3 mistral-large-3-675b-instruct-2512 gemma-3-4b-it
gemma-3-27b-it qwen2.5-coder-7b-instruct qwen2.5-coder-32b-instruct llama-3.1-8b-instruct llama-3.3-70b-instruct
gpt-oss-20b gpt-oss-120b deepseek-r1-distill-llama-8b deepseek-r1-distill-qwen-14b deepseek-r1-0528 deepseek-v3-0324
"""
TRANSFORMERS_0_12 = _TRANSFORMERS.split()
"""Of its catalogue, what its transformers runtime is listed for."""

# Instance types of KAITO 0.12: cloud, GPUs, GPU memory in all; + has NVMe where KAITO says so.
_SKUS = """
azure Standard_NV36ads_A10_v5 1 24
azure Standard_NV72ads_A10_v5 2 48
azure Standard_NC24ads_A100_v4 1 80 +
azure Standard_NC48ads_A100_v4 2 160 +
azure Standard_NC96ads_A100_v4 4 320 +
azure Standard_ND96asr_A100_v4 8 320
azure Standard_ND96amsr_A100_v4 8 640 +
azure Standard_NC40ads_H100_v5 1 94 +
azure Standard_NC80adis_H100_v5 2 188 +
azure Standard_ND96isr_H100_v5 8 640 +
azure Standard_NCC40ads_H100_v5 1 94
azure Standard_ND96isr_H200_v5 8 1128 +
azure Standard_NG32ads_V620_v1 1 32
azure Standard_NG32adms_V620_v1 1 32
aws p4d.24xlarge 8 320
aws p4de.24xlarge 8 640
aws p5.48xlarge 8 640
aws p5e.48xlarge 8 1128
aws p5en.48xlarge 8 1128
aws g6.xlarge 1 24
aws g6.2xlarge 1 24
aws g6.4xlarge 1 24
aws g6.8xlarge 1 24
aws g6.16xlarge 1 24
aws gr6.4xlarge 1 24
aws gr6.8xlarge 1 24
aws g6.12xlarge 4 96
aws g6.24xlarge 4 96
aws g6.48xlarge 8 192
aws g5.xlarge 1 24
aws g5.2xlarge 1 24
aws g5.4xlarge 1 24
aws g5.8xlarge 1 24
aws g5.16xlarge 1 24
aws g5.12xlarge 4 96
aws g5.24xlarge 4 96
aws g5.48xlarge 8 192
aws g4ad.xlarge 1 8
aws g4ad.2xlarge 1 8
aws g4ad.4xlarge 1 8
aws g4ad.8xlarge 2 16
aws g4ad.16xlarge 4 32
aws trn1.2xlarge 1 32
aws trn1.32xlarge 16 512
aws trn1n.32xlarge 16 512
aws inf2.xlarge 1 32
aws inf2.8xlarge 1 32
aws inf2.24xlarge 6 192
aws inf2.48xlarge 12 384
arc Standard_NC4_A2 1 16
arc Standard_NC8_A2 1 16
arc Standard_NC16_A2 2 32
arc Standard_NC32_A2 2 32
arc Standard_NC4_A16 1 16
arc Standard_NC8_A16 1 16
arc Standard_NC16_A16 2 32
arc Standard_NC32_A16 2 32
"""
SKUS_0_12 = _SKUS.strip().splitlines()
