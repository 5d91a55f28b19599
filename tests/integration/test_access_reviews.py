"""Reviews of tokens and of rights: questions to the API server that are asked by creating them."""

from __future__ import annotations

from kaito.client import Client
from kaito.kube import ObjectMeta
from kaito.kube.authentication_v1 import SelfSubjectReview, TokenReview, TokenReviewSpec
from kaito.kube.authorization_v1 import (
    NonResourceAttributes,
    ResourceAttributes,
    SelfSubjectAccessReview,
    SelfSubjectAccessReviewSpec,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
)
from kaito.kube.core_v1 import ServiceAccount


async def test_a_token_review_says_whose_a_token_is_and_hides_it(client: Client, namespace: str) -> None:
    account = await client.create(ServiceAccount(metadata=ObjectMeta(name="somebody", namespace=namespace)))
    token = (await client.create_token(account.key)).token
    asked = TokenReview(spec=TokenReviewSpec(token=token))
    answer = await client.create(asked)
    assert answer.status.authenticated
    assert answer.status.user.username == f"system:serviceaccount:{namespace}:somebody"
    assert f"system:serviceaccounts:{namespace}" in answer.status.user.groups
    assert token not in f"{asked!r}{answer!r}"

    wrong = await client.create(TokenReview(spec=TokenReviewSpec(token="wrong")))
    assert not wrong.status.authenticated
    assert wrong.status.error


async def test_a_subject_access_review_says_what_somebody_may_do(client: Client) -> None:
    async def may(user: str, *groups: str) -> bool:
        path = NonResourceAttributes(path="/metrics", verb="get")
        spec = SubjectAccessReviewSpec(user=user, groups=groups, non_resource_attributes=path)
        return (await client.create(SubjectAccessReview(spec=spec))).status.allowed

    assert await may("anna", "system:masters")
    assert not await may("anna")


async def test_one_may_ask_who_one_is_and_what_one_may_do(client: Client, namespace: str) -> None:
    assert (await client.create(SelfSubjectReview())).status.user_info.username
    wanted = ResourceAttributes(namespace=namespace, verb="update", resource="pods", subresource="status")
    spec = SelfSubjectAccessReviewSpec(resource_attributes=wanted)
    assert (await client.create(SelfSubjectAccessReview(spec=spec))).status.allowed
