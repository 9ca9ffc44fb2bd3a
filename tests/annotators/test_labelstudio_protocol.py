"""The interface for Label Studio, without Label Studio: the ML backend's protocol, and hostile requests."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from rlmba.annotators import Question, create
from rlmba.annotators.labelstudio import protocol
from rlmba.annotators.labelstudio.labeling import Control
from rlmba.annotators.labelstudio.live import LiveProject
from rlmba.annotators.labelstudio.ordering import new_ranks
from rlmba.annotators.labelstudio.protocol import ACTIONS, TRAIN, authorization, make_app
from rlmba.annotators.labelstudio.task_form import PREFIX, TaskForm
from rlmba.storage import make_folder
from tests.helpers.labelstudio_files import batch, task

SECRET = "s" * 24
PROJECT = "5.1700000000"


class Noted(LiveProject):
    """A live project with a known number, which records the actions that woke it."""

    def __init__(self, annotator, say):
        super().__init__(annotator, say)
        self._number = 5
        self.actions = []

    def hint(self, action):
        self.actions.append(action)
        super().hint(action)


@pytest.fixture
def said():
    return []


@pytest.fixture
def live(tmp_path, said):
    annotator = create("labelstudio", tmp_path, {"project": 5})
    make_folder(annotator.tickets.folder)
    return Noted(annotator, said.append)


@pytest.fixture
def studio(live, said):
    """A client that sends requests in the way Label Studio does."""
    app = make_app(live, SECRET, ["127.0.0.1"], said.append)
    return TestClient(
        app, "http://127.0.0.1:9090", headers={"Authorization": authorization(SECRET)}
    )


def event(action="ANNOTATION_CREATED", project=5, **more):
    return {"action": action, "project": {"id": project, "title": "x"}, **more}


def test_it_connects(studio, live):
    assert studio.get("/health").json() == {"status": "UP", "model_class": "rlmba"}
    setup = {
        "project": PROJECT, "schema": "<View/>", "hostname": "http://localhost:8080",
        "access_token": "f" * 40, "extra_params": None,
    }  # fmt: skip
    assert studio.post("/setup", json=setup).json() == {"model_version": "rlmba"}
    assert studio.get("/versions").json()["versions"] == []
    for number in (1, 2):
        live.annotator.tickets.write(batch(round_=number))
    assert studio.post("/setup", json=setup).json() == {"model_version": "round 2"}
    assert studio.request("GET", "/versions", json={"project": PROJECT}).json()["versions"] == [
        "round 1",
        "round 2",
    ]
    live.count(3, 8, "")
    assert studio.get("/metrics").json() == {"answered": 3, "asked": 8, "trouble": ""}


def test_predictions_are_those_of_the_latest_batch_of_a_sample(studio, live):
    live.annotator.tickets.write(batch(3, round_=1))
    later = (Question("a/1", 1, prediction="$image", probability=0.9), Question("a/2", 2))
    live.annotator.tickets.write(batch(round_=2, questions=later))
    asked = [
        task(0, round_=1),
        task(1, round_=1),
        task(1, round_=2) | {"predictions": [{"model_version": "round 2"}]},
        task(2, round_=2),
        task(0, sample="elsewhere"),
        {"id": 9, "data": {}},
    ]
    for one in asked[:2] + asked[3:5]:
        one["predictions"] = []
    found = studio.post(
        "/predict", json={"tasks": asked, "project": PROJECT, "label_config": "", "params": {}}
    ).json()["results"]
    said = [
        [(p["model_version"], p["result"][0]["value"]["choices"], p["score"]) for p in one]
        for one in found
    ]
    assert said == [
        [("round 1", ["cat"], 0.5)],
        [("round 2", ["$image"], 0.9)],
        [],
        [("round 1", ["cat"], 0.5)],
        [],
        [],
    ]
    assert found[0][0]["result"][0] | {"value": 0} == {
        "from_name": "label", "to_name": "about", "type": "choices", "value": 0,
    }  # fmt: skip


def test_predictions_for_tasks_of_people_and_for_leftovers(tmp_path):
    options = {"project": 5, "id_key": "uid", "control": "kind"}
    live = LiveProject(create("labelstudio", tmp_path, options), print)
    live._control = Control("kind", "words", {"cat": "Cat"})
    tickets = live.annotator.tickets
    tickets.write(batch(questions=(Question("7", 1, prediction="dog"), Question("8", 2))))
    left = (Question("7", 2, prediction="cat"),)
    tickets.write(replace(batch(round_=4, questions=(Question("9", 1),)), leftovers=left))
    data = [{"uid": 7.0}, {"uid": "8"}, {"uid": 9}, {"uid": [7]}, {"uid": None}, {"sample_id": "7"}]
    found = live.predictions([{"data": one, "predictions": []} for one in data])
    result = {
        "from_name": "kind", "to_name": "words", "type": "choices", "value": {"choices": ["Cat"]}
    }  # fmt: skip
    assert found == [[{"model_version": "round 4", "result": [result]}], [], [], [], [], []]


def test_events_in_any_order_and_number_only_wake(studio, live, tmp_path):
    live.annotator.tickets.write(batch())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    sent = [*reversed(ACTIONS), *ACTIONS, "ANNOTATION_CREATED"]
    for action in sent:
        assert studio.post("/webhook", json=event(action, annotation={"id": 1})).status_code == 200
    assert studio.post("/webhook", json=event("TASKS_CREATED")).status_code == 200
    assert studio.post("/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 200
    assert live.actions == [*sent, "PROJECT_UPDATED"]
    live.wait(60)
    assert live.tasks_deleted()
    assert not live.tasks_deleted()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/webhook", {"action": TRAIN, "project": {"id": 5}}),
        ("/train", {"annotations": [], "project": PROJECT, "label_config": "", "params": {}}),
    ],
)
def test_the_training_button_says_what_happens(studio, live, said, path, body):
    answer = studio.post(path, json=body)
    assert answer.status_code == 200
    assert "when every question of the batch has an answer" in answer.json()["message"]
    assert live.actions == [TRAIN]
    live.wait_for_training()
    assert "rlmba collect DIR --partial" in said[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/setup", {"project": "6.1700000000"}),
        ("/predict", {"project": "55.1", "tasks": []}),
        ("/webhook", event(project=6)),
        ("/train", {"project": "6"}),
    ],
)
def test_another_project_is_refused(studio, live, said, path, body):
    answer = studio.post(path, json=body)
    assert answer.status_code == 403
    message = answer.json()["message"]
    assert "works for project 5" in message
    assert "another port" in message
    assert said == [f"refused: {message}"]
    live._number = None
    assert "has no project yet" in studio.post(path, json=body).json()["message"]
    assert live.actions == []


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        "", "Basic", "Basic é".encode(), basic("rlmba", "x" * 24), basic("", ""), f"Token {SECRET}",
        "Basic !!!", f"Bearer {SECRET}x", "Bearer ",
    ],
)  # fmt: skip
def test_without_the_secret_nothing_is_answered(studio, live, said, header):
    for path in ("/health", "/metrics", "/nowhere"):
        assert studio.get(path, headers={"Authorization": header}).status_code == 401
    answer = studio.post("/webhook", json=event(), headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert live.actions == []
    (line,) = said
    assert "'/health'" in line
    assert "no secret or a wrong one" in line
    assert SECRET not in line


def test_lines_about_refused_requests_are_few_and_counted(studio, said, monkeypatch):
    for _ in range(5):
        studio.get("/health", headers={"Authorization": ""})
    monkeypatch.setattr(protocol, "_EVERY", 0.0)
    studio.get("/health", headers={"Authorization": ""})
    assert len(said) == 2
    assert said[1].endswith("(and 4 more since the last such line)")


def test_a_bearer_token_works_and_the_user_does_not_matter(studio):
    for header in (f"Bearer {SECRET}", basic("anybody", SECRET)):
        assert studio.get("/health", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9090", "[", "", "127.0.0.1.evil.example"]
)
def test_other_host_names_are_refused(studio, said, host):
    assert studio.get("/health", headers={"Host": host}).status_code == 403
    assert "which is not this server" in said[0]


def test_an_address_that_was_given_is_a_host_name(live, said):
    app = make_app(live, SECRET, ["127.0.0.1", "models.example"], said.append)
    headers = {"Authorization": authorization(SECRET)}
    assert (
        TestClient(app, "http://models.example", headers=headers).get("/health").status_code == 200
    )
    app = make_app(live, SECRET, ["0.0.0.0"], said.append)
    assert TestClient(app, "http://any.example", headers=headers).get("/health").status_code == 200


def test_a_huge_body_is_refused(studio, live, monkeypatch):
    monkeypatch.setattr(protocol, "_MOST", 1000)

    def parts():
        for _ in range(100):
            yield b"x" * 100

    assert studio.post("/webhook", content=parts()).status_code == 413
    assert studio.post("/webhook", json=event(more="x" * 1000)).status_code == 413
    assert live.actions == []


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/train"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'"\\ud800"',
        b"[" * 100_000,
        b'{"project": null, "action": 3}',
    ],
)
def test_malformed_bodies(studio, live, path, body):
    answer = studio.post(path, content=body)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("expected another request: ")
    assert live.actions == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["action", "project", "id", "tasks", "data", "predictions", "sample_id", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    path=st.sampled_from(["/setup", "/predict", "/webhook", "/train"]),
)
def test_any_json_is_answered(studio, live, body, path):
    live.annotator.tickets.write(batch())
    answer = studio.post(path, content=json.dumps(body))
    assert answer.status_code in (200, 403, 422)


def test_a_damaged_ticket_is_reported(studio, live, said):
    live.annotator.tickets.write(batch())
    (live.annotator.tickets.folder / "round_003.json").write_text("{")
    body = {"tasks": [task(0) | {"predictions": []}], "project": PROJECT}
    answer = studio.post("/predict", json=body)
    assert answer.status_code == 500
    assert "round_003.json" in answer.json()["message"]
    assert said[0].startswith("/predict: ")


def test_the_latest_batch_comes_first_then_earlier_rounds():
    tasks = [
        task(0, round_=1, rank=2),
        task(5, sample="b", round_=2, rank=9),
        task(1, round_=1, rank=1),
        task(2, round_=3, rlmba_rank=3),
        task(1, round_=3, rlmba_rank=7),
        task(0, round_=3),
        task(6, sample="mine", round_="?"),
    ]
    by_task = [
        (one["data"]["sample_id"], one["data"]["round"], rank)
        for one, rank in new_ranks(batch(), tasks)
    ]
    assert sorted(by_task, key=lambda t: t[2]) == [
        ("a/0", 3, 1), ("a/1", 3, 2), ("b", 2, 4), ("a/1", 1, 5), ("a/0", 1, 6),
    ]  # fmt: skip


def test_their_tasks_are_ranked_by_the_keys_that_were_added():
    data = [
        {"uid": "a/0", "round": 3, "rlmba_round": 1, "rlmba_rank": 2},
        {"uid": "b", "round": 3, "rlmba_round": 1, "rlmba_rank": 1},
        {"uid": "a/2", "rlmba_round": 3, "rlmba_rank": 9},
        {"uid": "c", "round": 3, "rank": 1},
    ]
    tasks = [{"id": k, "data": one} for k, one in enumerate(data)]
    ranked = new_ranks(batch(), tasks, TaskForm("uid", PREFIX, "kind"))
    assert sorted((task["id"], rank) for task, rank in ranked) == [(0, 5), (1, 4), (2, 3)]
