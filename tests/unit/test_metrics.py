"""The contract's metrics: names, labels that nobody outside can add to, and gauges asked at the scrape."""

from prometheus_client.parser import text_string_to_metric_families

from cti.metrics import AGENT_STATES, CALLBACK_STATES, Metrics


def the_metrics() -> Metrics:
    return Metrics(
        services=["sales"],
        adapters=["directory"],
        pbxes=["main"],
        destinations=["crm"],
        ami_events=["Hangup"],
    )


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    metrics.refresh()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def feed_everything(metrics: Metrics) -> None:
    metrics.call_ended("inbound", "sales", "answered")
    metrics.answered_asterisk(0.012)
    metrics.identified("directory", "hit", 0.0004)
    metrics.adapter_up("directory", True)
    metrics.decided("sales", "dial")
    metrics.card_offered(0.01)
    metrics.agents({"ready": 2})
    metrics.waiting_calls({"sales": 2})
    metrics.waited("sales", 4.5)
    metrics.own_code_asked("own.tickets", "timeout", 0.25)
    metrics.ami_up("main", True)
    metrics.ami_event("main", "Hangup")
    metrics.outbox({"crm": (3, 100.0)}, {"crm": 2}, now=160.0)
    metrics.shed()
    metrics.committed(0.002)
    metrics.event_streams(7)


def test_every_metric_of_the_contract_that_can_be_fed_is_there() -> None:
    metrics = the_metrics()
    feed_everything(metrics)
    found = samples(metrics)
    for name, labels in {
        "cti_calls_total": {"direction": "inbound", "service": "sales", "outcome": "answered"},
        "cti_setup_seconds_count": {},
        "cti_identify_seconds_count": {"adapter": "directory", "outcome": "hit"},
        "cti_own_code_seconds_count": {"own": "own.tickets", "outcome": "timeout"},
        "cti_adapter_up": {"adapter": "directory"},
        "cti_decisions_total": {"service": "sales", "action": "dial"},
        "cti_card_offer_seconds_count": {},
        "cti_wait_seconds_count": {"service": "sales"},
        "cti_ami_up": {"pbx": "main"},
        "cti_ami_events_total": {"pbx": "main", "event": "Hangup"},
        "cti_shed_total": {},
        "cti_store_commit_seconds_count": {},
    }.items():
        assert found[name, frozenset(labels.items())] == 1.0, name
    assert found["cti_agents", frozenset({("state", "ready")})] == 2.0
    assert found["cti_waiting_calls", frozenset({("service", "sales")})] == 2.0
    assert found["cti_outbox_pending", frozenset({("destination", "crm")})] == 3.0
    assert found["cti_outbox_oldest_seconds", frozenset({("destination", "crm")})] == 60.0
    assert found["cti_event_streams", frozenset()] == 7.0
    assert not any(name.endswith("_created") for name, _ in found)


def test_a_caller_cannot_make_a_new_label() -> None:
    metrics = the_metrics()
    for n in range(50):
        metrics.call_ended("inbound", f"dialled-{n}", "answered")
        metrics.decided(None, "dial")
        metrics.ami_event("main", f"Invented{n}")
        metrics.identified("directory", f"outcome-{n}", 0.1)
    assert value(metrics, "cti_calls_total", direction="inbound", service="none", outcome="answered") == 50
    assert value(metrics, "cti_decisions_total", service="none", action="dial") == 50
    assert value(metrics, "cti_ami_events_total", pbx="main", event="other") == 50
    assert value(metrics, "cti_identify_seconds_count", adapter="directory", outcome="other") == 50


def test_what_is_remembered_of_unknown_names_is_bounded() -> None:
    metrics = the_metrics()
    for n in range(5000):
        metrics.decided(f"dialled-{n}", "dial")
    assert len(metrics._decision_children) < 5000
    assert value(metrics, "cti_decisions_total", service="none", action="dial") == 5000


def test_a_budget_overrun_is_counted_apart() -> None:
    metrics = the_metrics()
    metrics.identified("directory", "hit", 0.8)
    metrics.identified("directory", "hit", 0.81)
    assert value(metrics, "cti_identify_seconds_bucket", adapter="directory", outcome="hit", le="0.8") == 1


def test_agents_in_no_state_are_zero_and_not_what_they_were() -> None:
    metrics = the_metrics()
    metrics.agents({"ready": 2, "busy": 1})
    metrics.agents({"ready": 1})
    assert {state: value(metrics, "cti_agents", state=state) for state in AGENT_STATES} == {
        **dict.fromkeys(AGENT_STATES, 0.0),
        "ready": 1.0,
    }


def test_calls_to_make_that_are_in_no_state_any_more_are_zero() -> None:
    metrics = the_metrics()
    metrics.callbacks({"planned": 2, "open": 1})
    metrics.callbacks({"given_up": 1})
    assert {state: value(metrics, "cti_callbacks", state=state) for state in CALLBACK_STATES} == {
        **dict.fromkeys(CALLBACK_STATES, 0.0),
        "given_up": 1.0,
    }


def test_an_emptied_outbox_is_zero() -> None:
    metrics = the_metrics()
    metrics.outbox({"crm": (3, 100.0), "unknown": (1, 1.0)}, {"unknown": 1}, now=160.0)
    metrics.outbox({}, {}, now=170.0)
    assert value(metrics, "cti_outbox_pending", destination="crm") == 0
    assert value(metrics, "cti_outbox_oldest_seconds", destination="crm") == 0
    assert value(metrics, "cti_outbox_pending", destination="unknown") is None


def test_attempts_are_counted_by_what_came_of_them() -> None:
    metrics = the_metrics()
    for destination, outcome in (("crm", "delivered"), ("crm", "failed"), ("crm", "failed"), ("x", "y")):
        metrics.attempted(destination, outcome)

    def count(outcome: str, destination: str = "crm") -> float | None:
        return value(metrics, "cti_outbox_attempts_total", destination=destination, outcome=outcome)

    assert [count(outcome) for outcome in ("delivered", "failed", "dead")] == [1, 2, 0]
    assert count("other", "other") == 1


def test_what_has_not_happened_yet_is_zero_and_not_missing() -> None:
    metrics = the_metrics()
    for name, labels in (
        ("cti_ami_up", {"pbx": "main"}),
        ("cti_adapter_up", {"adapter": "directory"}),
        ("cti_outbox_pending", {"destination": "crm"}),
        ("cti_outbox_oldest_seconds", {"destination": "crm"}),
        ("cti_waiting_calls", {"service": "sales"}),
        ("cti_wait_seconds_count", {"service": "sales"}),
    ):
        assert value(metrics, name, **labels) == 0, name


def test_a_service_where_nobody_waits_any_more_is_zero() -> None:
    metrics = the_metrics()
    metrics.waiting_calls({"sales": 2, "unknown": 1})
    metrics.waiting_calls({})
    assert value(metrics, "cti_waiting_calls", service="sales") == 0
    assert value(metrics, "cti_waiting_calls", service="unknown") is None


def test_clocks_that_differ_make_no_wait_below_zero() -> None:
    metrics = the_metrics()
    metrics.waited("sales", -0.004)
    metrics.waited("dialled-1", 3.0)
    assert value(metrics, "cti_wait_seconds_sum", service="sales") == 0
    assert value(metrics, "cti_wait_seconds_count", service="none") == 1


def test_gauges_are_asked_at_each_scrape() -> None:
    metrics = the_metrics()
    counts = {"ready": 0}
    metrics.at_scrape(lambda: metrics.agents(counts))
    assert value(metrics, "cti_agents", state="ready") == 0
    counts["ready"] = 4
    assert value(metrics, "cti_agents", state="ready") == 4


def test_a_new_configuration_brings_its_names_and_takes_gauges_of_the_old() -> None:
    metrics = the_metrics()
    feed_everything(metrics)
    metrics.decided("support", "dial")
    metrics.configure(services=["support"], adapters=[], pbxes=["main"], destinations=[])
    assert value(metrics, "cti_waiting_calls", service="sales") is None
    metrics.decided("support", "dial")
    assert value(metrics, "cti_decisions_total", service="support", action="dial") == 1
    assert value(metrics, "cti_decisions_total", service="sales", action="dial") == 1
    assert value(metrics, "cti_adapter_up", adapter="directory") is None
    assert value(metrics, "cti_outbox_pending", destination="crm") is None
    assert value(metrics, "cti_ami_up", pbx="main") == 1
