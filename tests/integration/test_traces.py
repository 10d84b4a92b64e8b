"""Traces of a real worker, as a collector gets them; without the variables that ask for them there are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ContainerMaker
from tests.support.command_line import ROOT
from tests.support.deployment import deployed
from tests.support.sandbox_clients import SECRET, adopt, register
from tests.support.trace_receiver import ReceivedSpan, TraceReceiver
from tests.support.waiting import until
from worker.domain.errors import ConfigurationError
from worker.domain.secret import Secret
from worker.sandbox.server import RunningSandbox
from worker.tracing import Parts, Tracer, choose_parts, is_wanted


@pytest.mark.anyio
async def test_a_trace_goes_from_the_scan_to_each_settle(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """Each rotation's request, statement and settle hang under its drain, and that under the scan that asked for it."""
    client = register(sandbox)
    with (
        TraceReceiver() as receiver,
        deployed(
            tmp_path,
            database_url=database_url,
            broker_url=broker_url,
            keys=keys,
            configuration=client.toml,
            CLIENT_SECRET=SECRET,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_BSP_SCHEDULE_DELAY="200",
        ) as deployment,
    ):
        async with make_container(client.toml, **client.environment) as container:
            await adopt(container, sandbox, client, 3)
            await until(lambda: len(named(receiver, "rotate")) >= 3, 60.0, "three rotations are traced")
        deployment.stop()

    spans = {span.id: span for span in receiver.spans}

    def way(span: ReceivedSpan) -> list[str]:
        found = [span.name]
        while span.parent:
            span = spans[span.parent]
            found.append(span.name)
        return found

    requests = [span for span in named(receiver, "POST") if "server.address" in span.attributes]
    assert [way(span) for span in requests] == [["POST", "refresh", "rotate", "drain", "scan"]] * 3
    assert {way(span)[1:3] == ["rotate", "drain"] for span in named(receiver, "settle")} == {True}
    assert {span.attributes["evergrant.settled"] for span in named(receiver, "settle")} == {"stored"}
    assert {span.attributes["evergrant.outcome"] for span in named(receiver, "refresh")} == {"rotated"}
    assert {span.attributes["http.response.status_code"] for span in requests} == {"200"}
    assert ["UPDATE", "claim", "drain", "scan"] in [way(span) for span in named(receiver, "UPDATE")] or [
        "WITH",
        "claim",
        "drain",
        "scan",
    ] in [way(span) for span in receiver.spans]
    assert ["scan"] in [way(span)[1:] for span in receiver.spans if span.attributes.get("db.system.name")]
    assert {span.service for span in receiver.spans} == {"evergrant"}
    assert deployment.log("worker-1").count("Traceback") == 0


def named(receiver: TraceReceiver, name: str) -> list[ReceivedSpan]:
    """Return the spans of a name."""
    return [span for span in receiver.spans if span.name == name]


def test_without_its_variables_nothing_that_traces_is_loaded() -> None:
    """Traces that nobody asked for cost nothing: the parts are the plain ones, and what makes spans is not imported."""
    # redis imports OpenTelemetry's metrics by itself where they are installed, so it is not looked for as a whole.
    program = (
        "import sys, worker.bootstrap, worker.observers, worker.web.app, worker.runtime\n"
        "from worker.tracing import choose_parts\n"
        "tracing = ('opentelemetry.exporter', 'opentelemetry.sdk.trace', 'worker.tracing.parts')\n"
        "print(choose_parts({}).rotation.__name__, any(name.startswith(tracing) for name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["Rotation", "False"]
    plain = choose_parts({})
    assert (plain, type(plain.tracer)) == (Parts(tracer=plain.tracer), Tracer)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_SERVICE_NAME": "evergrant"}, False),
    ],
)
def test_the_ordinary_variables_ask_for_traces(environment: dict[str, str], *, wanted: bool) -> None:
    """An endpoint or an exporter asks for them; the switches of OpenTelemetry's specification take them away."""
    assert is_wanted(environment) is wanted


def test_traces_without_the_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the SDK is missing the start says how to install it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"evergrant\[traces\]"):
        choose_parts({"OTEL_TRACES_EXPORTER": "otlp"})
