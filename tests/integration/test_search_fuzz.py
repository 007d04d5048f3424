"""The service's own description of its API, and requests that are drawn from it."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method
from served_search import served_search
from tiny_index import add_to_index, some_videos
from tiny_model import tiny_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EXAMPLES = 50

NOT_DESCRIBED = [positive_data_acceptance, unsupported_method]
"""A sentence of spaces and one with a NUL are refused, which no schema says; to other methods the
framework answers."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    videos = some_videos(folder / "videos", ["a.mp4", "b/ü.mp4"])
    checkpoint = tiny_checkpoint(folder / "run")
    add_to_index(
        folder / "index", checkpoint, videos, captions={"a.mp4": ["one", "two"]}, two_stage_from=1
    )
    with served_search(folder / "index", "--queries-per-minute", "1000000") as served:
        yield f"http://127.0.0.1:{served.port}"


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name)
def test_no_request_breaks_the_service_and_each_answer_is_as_described(address, mode):
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:
        hold(operation, mode, address)


def hold(operation: schemathesis.APIOperation, mode: GenerationMode, address: str) -> None:
    """Draw requests for an operation; a wrong answer is raised with the request."""
    number_sent = 0

    @given(operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        nonlocal number_sent
        response = case.call(base_url=address)
        case.validate_response(response, excluded_checks=NOT_DESCRIBED)
        number_sent += 1

    try:
        ask()
    except Unsatisfiable:  # what takes nothing cannot be asked wrongly
        assert mode is GenerationMode.NEGATIVE
        assert not list(operation.iter_parameters())
        return
    assert number_sent > 0
