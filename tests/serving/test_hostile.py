"""Requests made from the service's own OpenAPI, right ones and wrong ones: never a 500."""

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from catid2_jax.serving.client import Client
from tests.serving.running import running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def attacked(tiny_workdir):
    with running(tiny_workdir) as service:
        yield service


def attack(served, each):
    """`each` requests per operation and kind; returns how many there were."""
    description = Client(served.url).call("GET", "/openapi.json")
    schema, count = schemathesis.openapi.from_dict(description), 0
    headers = {"authorization": "Bearer admin"}
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=each,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[hypothesis.Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case):
                nonlocal count
                count += 1
                case.call_and_validate(base_url=served.url, headers=headers, checks=CHECKS)

            try:
                send()
            except hypothesis.errors.Unsatisfiable:  # nothing is wrong for a path without input
                continue
    return count


@pytest.mark.filterwarnings("ignore")
def test_requests_of_every_kind(attacked):
    assert attack(attacked, 5) > 50
    assert attacked.client.retrieve(["tea"], k=1)[0].hits
    assert attacked.compilations.serving == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ten_thousand_requests(attacked):
    assert attack(attacked, 600) >= 10_000
    assert attacked.client.retrieve(["tea"], k=1)[0].hits
    assert attacked.compilations.serving == 0
