import json

from oauthflow.protocol.trace import Trace, TraceStep


def test_a_step_loses_user_name_query_and_fragment() -> None:
    trace = Trace()
    trace.add("token", "https://user:secret@as.example/token?code=marker#x", 200, 12)
    assert trace.steps == [TraceStep("token", "https://as.example/token", 200, 12)]
    assert "marker" not in repr(trace)
    assert "secret" not in repr(trace)


def test_an_at_sign_in_the_path_stays() -> None:
    trace = Trace()
    trace.add("probe", "https://mcp.example/@team/mcp", None, 3)
    assert trace.steps[0].url == "https://mcp.example/@team/mcp"


def test_a_verdict_goes_onto_the_last_step() -> None:
    trace = Trace()
    trace.add("first", "https://a.example", 404, 1)
    trace.add("second", "https://b.example", 200, 2)
    trace.verdict("The issuer matches.")
    assert [step.verdict for step in trace.steps] == ["", "The issuer matches."]


def test_a_verdict_without_a_step_is_kept() -> None:
    trace = Trace()
    trace.verdict("Nothing was asked.")
    assert trace.as_json() == [
        {"step": "", "url": "", "status": None, "duration_ms": 0, "verdict": "Nothing was asked."}
    ]


def test_a_trace_is_json_with_one_object_for_each_step() -> None:
    trace = Trace()
    trace.add("resource metadata", "https://mcp.example/x", 200, 7)
    assert json.loads(json.dumps(trace.as_json())) == [
        {"step": "resource metadata", "url": "https://mcp.example/x", "status": 200, "duration_ms": 7, "verdict": ""}
    ]


def test_long_texts_are_cut_and_control_characters_dropped() -> None:
    trace = Trace()
    trace.add("a\x1b[1m", "https://a.example/" + "a" * 1000, 200, 1)
    trace.verdict("line\r\nbreak" + "b" * 1000)
    assert trace.steps[0].step == "a[1m"
    assert len(trace.steps[0].url) == 500
    assert trace.steps[0].verdict.startswith("linebreakb")
    assert len(trace.steps[0].verdict) == 500
