"""Projects of a real Label Studio that people have: their tasks, data keys and labeling config."""

from __future__ import annotations

import json
import re

import pytest

from rlmba.annotators import LabelBatch, Question, create
from rlmba.annotators.labelstudio.labeling import same
from rlmba.errors import AnnotatorError, DataError, RlmbaWarning
from rlmba.project import status
from rlmba.runfolder.store import read_run
from tests.helpers.people_data import asked as next_batch
from tests.helpers.people_data import made, rows_of, write_manifest

pytest.importorskip("label_studio_sdk")
from rlmba.annotators.labelstudio.live import LiveProject
from tests.helpers.label_studio import annotate as pressed
from tests.helpers.label_studio import people_press_next, serving

# A warning about the SDK's own code, which it gives for each key that it exchanges.
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")

# "cat" has another name, "dog" another value, "owl" is missing; `quality` and `label` are not classes.
CONFIG = """<View>
  <!-- ours -->
  <Text name="words" value="$text"/>
  <Choices name="quality" toName="words"><Choice value="good"/><Choice value="cat"/></Choices>
  <Choices name="kind" toName="words" showInline="true">
    <Choice value="Cat"/><Choice value="A dog" alias="dog"/>
  </Choices>
  <Labels name="label" toName="words"><Label value="cat"/></Labels>
</View>"""
PRESSED = {"cat": "Cat", "dog": "dog", "owl": "owl"}


def annotate(person, task, label, **fields):
    pressed(person, task, PRESSED.get(label, label), control="kind", to_name="words", **fields)


def their_data(id_):
    """Data with keys of people that rlmba uses in its own projects."""
    return {"uid": id_, "text": f"about {id_}", "score": 5, "round": "first", "label": "cat"}


def their_tasks(studio, number):
    found = studio.api.tasks.list(project=number, fields="all", page_size=500)
    return sorted(found, key=lambda task: task.id)


@pytest.fixture
def theirs(studio):
    """Makes a project with tasks; gives its number."""

    def project(data, config=CONFIG):
        number = studio.api.projects.create(title="theirs", label_config=config).id
        if data:
            tasks = [{"data": one} for one in data]
            studio.api.projects.import_tasks(number, request=tasks)
        return number

    return project


@pytest.fixture
def annotator(studio, tmp_path, monkeypatch):
    """Makes a new annotator for a project's number, as another process would."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.key)

    def project(number, **options):
        options = {"id_key": "uid", "control": "kind"} | options
        return create("labelstudio", tmp_path, {"url": studio.url, "project": number} | options)

    return project


def batch(ids, round_=3, **fields):
    asked = tuple(
        Question(id_, k, score=k / 10, difficulty=0.25, prediction="cat", probability=0.75)
        for k, id_ in enumerate(ids, start=1)
    )
    content = {"classes": ("cat", "dog", "owl"), "open": False, "weights": {"a": 1.0}}
    return LabelBatch(round_, questions=asked, **content | fields)


def test_questions_are_the_tasks_of_people(studio, theirs, annotator):
    data = [their_data(id_) for id_ in ("a", "b", "c", "d")]
    number = theirs([*data, their_data("b"), {"text": "no id", "uid": None}, {"text": "no key"}])
    before = their_tasks(studio, number)
    annotate(studio.ada, before[0], "dog")
    annotate(studio.ada, before[3], "nothing that is a class")
    ticket = annotator(number).request(batch(["b", "a"]))
    for _ in range(2):
        annotator(number).request(batch(["b", "a"]))
    found = their_tasks(studio, number)
    assert [task.id for task in found] == [task.id for task in before]
    facts = {
        "rlmba_round": 3, "rlmba_rank": 1, "rlmba_purpose": "train", "rlmba_uncertainty": 0.25,
        "rlmba_score": 0.1, "rlmba_folder": found[1].data["rlmba_folder"],
    }  # fmt: skip
    assert found[1].data == data[1] | facts
    assert found[4].data == data[1] | facts
    assert found[0].data == data[0] | facts | {"rlmba_rank": 2, "rlmba_score": 0.2}
    for k in (2, 3, 5, 6):
        assert found[k].data == before[k].data
        assert not found[k].predictions
    for k in (1, 4):
        (prediction,) = map(dict, found[k].predictions)
        assert (prediction["model_version"], prediction["score"]) == ("round 3", 0.75)
        (result,) = prediction["result"]
        assert result == {
            "from_name": "kind", "to_name": "words", "type": "choices", "value": {"choices": ["Cat"]}
        }  # fmt: skip
    config = studio.api.projects.get(number).label_config
    assert '<Choice value="owl"' in config
    assert same(re.sub(r'<Choice value="owl"\s*/>', "", config), CONFIG)
    # An answer that was there counts, as do those of all tasks of a sample, which may be a tie.
    assert annotator(number).collect(ticket) == {"a": "dog"}
    annotate(studio.ada, found[1], "owl")
    annotate(studio.bob, found[4], "cat")
    with pytest.warns(RlmbaWarning, match="equally divided on 1 questions"):
        assert annotator(number).collect(ticket) == {"a": "dog"}
    again = their_tasks(studio, number)[-1]
    assert again.data["text"] == "about b"
    assert "asked again: 2 answers" in again.data["rlmba_about"]
    annotate(studio.ada, again, "cat")
    assert annotator(number).collect(ticket) == {"a": "dog", "b": "cat"}
    # What nobody asked for is no error. It counts once it is asked for.
    with pytest.raises(DataError, match=rf"task {found[3].id} \(sample 'd'\): label 'nothing that"):
        annotator(number).collect(annotator(number).request(batch(["d"], 4)))
    assert annotator(number).collect(ticket) == {"a": "dog", "b": "cat"}


def test_ids_are_read_like_cells(studio, theirs, annotator):
    written = [7, 8.0, "9", "10.0", " é 11 ", "12", "x" * 190]
    names = ["7", "8", "9", "10", "e\N{COMBINING ACUTE ACCENT} 11", "12", "x" * 190]
    number = theirs([{"uid": cell, "text": "t"} for cell in written])
    annotator(number).request(batch(names))
    found = their_tasks(studio, number)
    assert [task.data["rlmba_rank"] for task in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [task.data["uid"] for task in found] == written
    for task in found:
        annotate(studio.ada, task, "cat")
    assert annotator(number).collect("round_003") == dict.fromkeys(names, "cat")


def test_what_does_not_fit_is_refused_before_anything_changes(studio, theirs, annotator):
    number = theirs([their_data(id_) for id_ in "abc"])
    before = their_tasks(studio, number)
    config = studio.api.projects.get(number).label_config

    def refused(asked, **options):
        with pytest.raises(AnnotatorError) as caught:
            annotator(number, **options).request(asked)
        assert their_tasks(studio, number) == before
        assert studio.api.projects.get(number).label_config == config
        return str(caught.value)

    said = refused(batch("xyz"))
    assert "found none for 3 of 3 samples: 'x', 'y', 'z'; 3 of its 3 tasks have an id there" in said
    assert "such as 'a'" in said
    said = refused(batch("ab"), id_key="id")
    assert "'id' in its data (the annotator's option id_key)" in said
    assert "none of its 3 tasks has this key, the keys are ['label', 'round', 'score'" in said
    said = refused(batch("ab"), control="label")
    assert (
        "'label' is a control of type Labels; set the annotator's option control to one of" in said
    )
    assert "['quality', 'kind']" in said
    assert "none is called 'sort'" in refused(batch("ab"), control="sort")
    with pytest.raises(AnnotatorError, match="the project has no tasks: import them"):
        annotator(theirs([])).request(batch("ab"))
    with pytest.raises(AnnotatorError, match=r"there is no project 99999 for this key"):
        annotator(99999).request(batch("ab"))


def test_samples_without_a_task_do_not_stop_the_others(studio, theirs, annotator):
    number = theirs([their_data(id_) for id_ in "abc"])
    with pytest.warns(RlmbaWarning, match="found none for 1 of 2 samples: 'x'"):
        ticket = annotator(number).request(batch("bx"))
    task = their_tasks(studio, number)[1]
    assert task.data["rlmba_rank"] == 1
    annotate(studio.ada, task, "owl")
    assert annotator(number).collect(ticket) == {"b": "owl"}
    studio.api.projects.import_tasks(number, request=[{"data": their_data("x")}])
    assert annotator(number).request(batch("bx")) == ticket
    annotate(studio.ada, their_tasks(studio, number)[-1], "cat")
    assert annotator(number).collect(ticket) == {"b": "owl", "x": "cat"}


def test_a_second_folder_on_the_same_tasks_is_warned(studio, theirs, annotator, tmp_path):
    number = theirs([their_data(id_) for id_ in "abc"])
    options = {"url": studio.url, "project": number, "id_key": "uid", "control": "kind"}
    create("labelstudio", tmp_path / "first", options).request(batch("ab"))
    first = their_tasks(studio, number)
    with pytest.warns(
        RlmbaWarning, match=rf"for 1 of these tasks of project {number} \(the first is task"
    ):
        annotator(number).request(batch("cb"))
    second = their_tasks(studio, number)
    marks = [[task.data.get("rlmba_folder") for task in tasks] for tasks in (first, second)]
    assert marks == [[marks[0][0], marks[0][0], None], [marks[0][0], marks[1][2], marks[1][2]]]
    assert marks[0][0] != marks[1][2]


def test_predictions_of_leftovers_are_the_latest(studio, theirs, annotator):
    number = theirs([their_data(id_) for id_ in "abcd"])
    annotator(number).request(batch("ab"))
    live = LiveProject(annotator(number), print)
    earlier = (Question("b", 2, prediction="owl", probability=0.5),)
    content = batch("c", 4, leftovers=earlier)
    for _ in range(2):
        annotator(number).request(content)
    live.arrange(content, lambda _: True)
    a, b, c, d = their_tasks(studio, number)
    versions = [[p["model_version"] for p in map(dict, t.predictions)] for t in (a, b, c, d)]
    assert [sorted(v) for v in versions] == [["round 3"], ["round 3", "round 4"], ["round 4"], []]
    assert [t.data.get("rlmba_rank") for t in (a, b, c, d)] == [2, 3, 1, None]
    assert studio.api.projects.get(number).model_version == "round 4"
    # The protocol's answers are in the terms of their config.
    asked = [{"data": t.data, "predictions": []} for t in (a, b, c, d)]
    found = live.predictions(asked)
    chosen = [[p["result"][0]["value"]["choices"] for p in one] for one in found]
    assert chosen == [[["Cat"]], [["owl"]], [["Cat"]], []]
    assert found[0][0]["result"][0]["to_name"] == "words"


@pytest.fixture
def project(studio, tmp_path, theirs, monkeypatch):
    """The folder of a project on 300 tasks of people, 20 of them answered; its number and the labels."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.key)
    rows, truth = rows_of(300)
    number = theirs([their_data(id_) for id_ in truth])
    for task in their_tasks(studio, number)[:20]:
        annotate(studio.ada, task, truth[task.data["uid"]])
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    options = {"url": studio.url, "project": number, "id_key": "uid", "control": "kind"}
    few = ("initial_labels=5", "project.validation_labels=6", "batch_size=3")
    more = {"annotator": "labelstudio", "annotator_options": options}
    return made(tmp_path / "p", manifest, *few, **more), number, truth


@pytest.fixture
def serve(project):
    with serving(project[0]) as start:
        yield start


def waiting(studio, number, round_):
    """The tasks of a round without an annotation, in the order of their rank."""
    found = [t for t in their_tasks(studio, number) if t.data.get("rlmba_round") == round_]
    return sorted((t for t in found if not t.annotations), key=lambda t: t.data["rlmba_rank"])


def test_two_rounds_on_their_tasks(studio, project, serve):
    folder, number, truth = project
    before = their_tasks(studio, number)
    server = serve()
    server.until("round 0: 11 samples are with labelstudio")
    server.until("connected with project")
    asked = waiting(studio, number, 0)
    for task in asked[:3]:
        assert people_press_next(studio, number)["id"] == task.id
        annotate(studio.ada, task, truth[task.data["uid"]])
    server.kill()
    for task in asked[3:-1]:
        annotate(studio.ada, task, truth[task.data["uid"]])
    studio.ada.delete(f"/api/tasks/{asked[-1].id}/").raise_for_status()

    gone = asked[-1].data["uid"]
    server = serve()
    server.until(f"found none for 1 of 11 samples: '{gone}'")
    server.until("connected with project")
    studio.api.projects.import_tasks(number, request=[{"data": their_data(gone)}])
    assert next_batch(folder).repeated
    (back,) = waiting(studio, number, 0)
    annotate(studio.ada, back, truth[back.data["uid"]])
    server.until("round 1: 3 samples are with labelstudio")
    server.kill()
    server = serve()
    server.until("connected with project")
    # Predictions that were deleted there come back when somebody retrieves them, for known samples only.
    for action in ("delete_tasks_predictions", "retrieve_tasks_predictions"):
        where = {"id": action, "project": number}
        every = {"selectedItems": {"all": True, "excluded": []}}
        studio.ada.post("/api/dm/actions/", params=where, json=every).raise_for_status()
    second = waiting(studio, number, 1)
    predicted = [task.id for task in their_tasks(studio, number) if task.predictions]
    assert sorted(predicted) == sorted(task.id for task in second)
    for task in second:
        assert people_press_next(studio, number)["id"] == task.id
        (prediction,) = map(dict, task.predictions)
        assert prediction["model_version"] == "round 1"
        assert prediction["result"][0]["value"]["choices"][0] in PRESSED.values()
        annotate(studio.ada, task, truth[task.data["uid"]])
    server.kill()
    server = serve()
    server.until("round 2: 3 samples are with labelstudio")
    server.until("connected with project")
    server.kill()

    assert [r.labels for r in read_run(folder).records] == [5, 8]
    log = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in log}) == len(log)
    assert all(line["label"] == truth[line["id"]] for line in log)
    found = {task.data["uid"]: task for task in their_tasks(studio, number)}
    assert len(found) == 300
    for task in before:
        now = found[task.data["uid"]].data
        assert {key: now[key] for key in task.data} == task.data
        assert not {key for key in now if key not in task.data and not key.startswith("rlmba_")}
    assert status(folder).trouble == ""
    assert studio.api.projects.get(number).model_version == "round 2"
