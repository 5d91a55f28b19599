"""Every error as an answer, on the paths of OpenAI and on KAITO's own."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from kaito.inference.errors import BadRequest, Overloaded, RequestError, Unavailable
from kaito.inference.http.errors import add_error_handlers

ERRORS: dict[str, Exception] = {
    "bad": BadRequest("n: must be 1 to 128, was 0", param="n"),
    "full": Overloaded("as much waits as may", retry_after_s=3),
    "away": Unavailable("the model is loading"),
    "defect": ZeroDivisionError("1/0"),
}


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/v1/{name}")
    @app.get("/own/{name}")
    async def fail(request: Request, name: str, count: int = 0) -> None:
        raise ERRORS[name]

    return TestClient(app, raise_server_exceptions=False)


def test_an_error_under_v1_is_openai_s_object(client: TestClient) -> None:
    answer = client.get("/v1/bad")
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "error": {
                "message": "n: must be 1 to 128, was 0",
                "type": "invalid_request_error",
                "param": "n",
                "code": None,
            }
        },
    )


def test_elsewhere_it_is_a_detail(client: TestClient) -> None:
    answer = client.get("/own/bad")
    assert (answer.status_code, answer.json()) == (400, {"detail": "n: must be 1 to 128, was 0"})


@pytest.mark.parametrize("root", ["/v1", "/own"])
def test_a_refusal_says_when_to_come_again(client: TestClient, root: str) -> None:
    assert client.get(f"{root}/full").headers["retry-after"] == "3"
    assert "retry-after" not in client.get(f"{root}/away").headers


def test_a_path_that_is_not_there_is_an_error_in_the_form_of_its_place(client: TestClient) -> None:
    for path in ("/v1", "/v1/no/such", "/tokenize/deeper"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")
        assert path in answer.json()["error"]["message"]
    for path in ("/v10", "/tokenized", "/"):
        assert client.get(path).json() == {"detail": "Not Found"}


def test_so_is_a_method_that_a_path_does_not_take_and_allow_names_those_it_does(client: TestClient) -> None:
    answer = client.delete("/v1/bad")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert "DELETE" in answer.json()["error"]["message"]


def test_a_parameter_of_the_wrong_type_is_400_with_its_name_under_v1_and_422_elsewhere(client: TestClient) -> None:
    answer = client.get("/v1/bad?count=few")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "count")
    assert client.get("/own/bad?count=few").status_code == 422


def test_a_defect_tells_the_client_nothing_of_its_cause(client: TestClient) -> None:
    answer = client.get("/v1/defect")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, RequestError.type)
    assert "1/0" not in answer.text
