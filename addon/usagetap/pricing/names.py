"""The names under which a price table may know a model that a request names otherwise; rows keep their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: an ARN names its model last: `…:foundation-model/ID`, `…:inference-profile/us.ID`, `…:provisioned-model/…`
_ARN = re.compile(r"arn:[^/]*:(?:foundation-model|inference-profile)/(?P<model>.+)")
#: Bedrock's inference profiles: the part of the world that they run in, before the model's id
#: (https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html)
_REGION = re.compile(r"(?:us-gov|us|eu|apac|au|jp|ca|in|sa|global)\.(?=[a-z0-9-]+\.)")
#: a size or version behind the id, such as `:0` or `-v1:0:300k`
_VERSION = re.compile(r"(?:-v\d+)?(?::\d+[a-z]?)+$")


def known_as(provider: str | None, models: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The provider and the names to look up, the most exact first."""
    if provider == "aws.bedrock":
        return provider, tuple(dict.fromkeys(name for model in models for name in _bedrock(model)))
    if provider == "huggingface":
        return _hugging_face(provider, models)
    return provider, tuple(models)


def _bedrock(model: str) -> list[str]:
    """An id with its region, then without: a profile of another region costs what the region's own id costs."""
    arn = _ARN.fullmatch(model)
    name = arn["model"] if arn else model
    bare = _REGION.sub("", name, count=1)
    plain = _VERSION.sub("", bare)
    # bedrock-mantle leaves out the version that Bedrock's own ids have
    return [name, bare, plain, f"{plain}-1:0"] if plain.startswith("openai.") else [name, bare, plain]


def _hugging_face(provider: str, models: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Hugging Face's router takes `model:provider`; genai-prices has a table for each provider behind it.

    https://huggingface.co/docs/inference-providers/index#provider-selection
    """
    for model in models:
        name, _, seller = model.partition(":")
        if seller and seller not in ("fastest", "cheapest", "preferred"):
            return f"huggingface_{seller}", (name, *models)
    return provider, tuple(models)
