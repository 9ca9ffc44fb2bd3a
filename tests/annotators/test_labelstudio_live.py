"""`rlmba label-studio serve` with a real Label Studio: rounds while people label, and killed servers."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest

from rlmba.annotators import create
from rlmba.errors import AnnotatorError
from rlmba.project import status
from rlmba.runfolder.store import read_run
from tests.helpers.labelstudio_files import batch
from tests.helpers.people_data import made, rows_of, write_manifest

pytest.importorskip("label_studio_sdk")
from rlmba.annotators.labelstudio.live import LiveProject
from rlmba.annotators.labelstudio.ordering import TAB
from tests.helpers.label_studio import annotate, people_press_next, serving

# A warning about the SDK's own code, which it gives for each key that it exchanges.
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")

SECRET = "a-secret-of-a-test-0123"


@pytest.fixture
def project(studio, tmp_path, monkeypatch):
    """A project's folder, and the true labels."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.key)
    rows, truth = rows_of(60)
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    options = {"annotator": "labelstudio", "annotator_options": {"url": studio.url}}
    few = ("initial_labels=5", "project.validation_labels=6", "batch_size=3")
    return made(tmp_path / "p", manifest, *few, **options), truth


@pytest.fixture
def serve(project):
    with serving(project[0]) as start:
        yield start


def number(folder) -> int:
    state = json.loads((folder / "labelstudio" / "server.json").read_text())
    (numbers,) = state["servers"].values()
    return numbers["questions"]


def open_tasks(studio, folder, round_):
    """The tasks of a round without an annotation, in the order of their rank."""
    found = studio.api.tasks.list(project=number(folder), fields="all")
    found = [t for t in found if t.data["round"] == round_ and not t.annotations]
    return sorted(found, key=lambda t: t.data["rlmba_rank"])


def test_two_rounds_killed_and_started_again(studio, project, serve):
    folder, truth = project
    server = serve()
    server.until("round 0: 11 samples are with labelstudio")
    server.until("connected with project")
    first = open_tasks(studio, folder, 0)
    assert [t.data["rlmba_rank"] for t in first] == list(range(1, 12))
    # As text, 10 would come before 2.
    for task in first[:5]:
        given = people_press_next(studio, number(folder))
        assert given["id"] == task.id
        annotate(studio.ada, task, truth[task.data["sample_id"]])
    server.kill()
    for task in first[5:]:
        annotate(studio.ada, task, truth[task.data["sample_id"]])

    server = serve()  # the batch was completed in the meantime
    server.until("round 0: 5 labels")
    server.until("round 1: 3 samples are with labelstudio")
    server.until("connected with project")
    server.kill()
    server = serve()
    server.until("round 1: 3 samples are with labelstudio")
    server.until("connected with project")
    second = open_tasks(studio, folder, 1)
    assert [t.data["rlmba_rank"] for t in second] == list(range(1, 4))
    for task in second:
        (prediction,) = task.predictions
        assert dict(prediction)["model_version"] == "round 1"
        assert people_press_next(studio, number(folder))["id"] == task.id
        annotate(studio.ada, task, truth[task.data["sample_id"]])
    server.kill()  # in the middle of counting or training
    server = serve()
    server.until("round 2: 3 samples are with labelstudio")
    server.kill()

    # Nothing is lost, and nothing was done twice.
    assert [r.labels for r in read_run(folder).records] == [5, 8]
    log = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert {line["id"]: line["label"] for line in log} == {
        t.data["sample_id"]: truth[t.data["sample_id"]] for t in [*first, *second]
    }
    assert len(log) == 14
    every = studio.api.tasks.list(project=number(folder))
    assert len({t.data["sample_id"] for t in every}) == len(list(every)) == 17
    shown = {"project": number(folder)}
    (model,) = studio.ada.get("/api/ml/", params=shown).json()
    (hook,) = studio.ada.get("/api/webhooks/", params=shown).json()
    assert hook["url"] == f"{model['url']}/webhook"
    assert (model["title"], model["basic_auth_user"]) == ("rlmba", "rlmba")
    assert studio.api.projects.get(number(folder)).model_version == "round 2"
    views = studio.ada.get("/api/dm/views/", params=shown).json()
    assert [view["data"]["title"] for view in views].count(TAB) == 1


class Woken(LiveProject):
    """Notes the actions that Label Studio reports."""

    def __init__(self, annotator, say):
        super().__init__(annotator, say)
        self.actions = []
        self.came = threading.Condition()

    def hint(self, action):
        super().hint(action)
        with self.came:
            self.actions.append(action)
            self.came.notify_all()

    def until(self, *actions):
        with self.came:
            assert self.came.wait_for(lambda: set(actions) <= set(self.actions), timeout=60), (
                self.actions
            )


def test_label_studio_reports_what_people_do(studio, project):
    folder, _ = project
    annotator = create("labelstudio", folder, {"url": studio.url})
    content = batch(12, open_=True, classes=("cat", "dog"))
    annotator.request(content)
    said = []
    live = Woken(annotator, said.append)
    with contextlib.closing(live.serve("127.0.0.1", 0, SECRET, None, "")) as server:
        for _ in range(2):
            live.arrange(content, lambda _: bool(live.connect(server.address, SECRET)))
        tasks = open_tasks(studio, folder, 3)
        annotate(studio.ada, tasks[0], "cat")
        live.until("ANNOTATION_CREATED")
        (given,) = studio.ada.get(f"/api/tasks/{tasks[0].id}/annotations/").json()
        result = {"result": given["result"]}
        studio.ada.patch(f"/api/annotations/{given['id']}/", json=result).raise_for_status()
        live.until("ANNOTATION_UPDATED")
        studio.ada.delete(f"/api/annotations/{given['id']}/").raise_for_status()
        live.until("ANNOTATIONS_DELETED")
        studio.ada.delete(f"/api/tasks/{tasks[1].id}/").raise_for_status()
        live.until("TASKS_DELETED")
        where = f"/api/projects/{number(folder)}/"
        studio.ada.patch(where, json={"title": "another title"}).raise_for_status()
        live.until("PROJECT_UPDATED")
        (model,) = studio.ada.get("/api/ml/", params={"project": number(folder)}).json()
        assert (model["state"], model["model_version"]) == ("CO", "round 3")
        studio.ada.post(f"/api/ml/{model['id']}/train", json={}).raise_for_status()
        live.until("START_TRAINING")
        versions = studio.ada.get(f"/api/ml/{model['id']}/versions").json()
        assert versions["versions"] == ["round 3"]

        # Predictions that were deleted there come back when somebody retrieves them.
        selected = {"selectedItems": {"all": True, "excluded": []}}
        actions = {"project": number(folder)}
        for action in ("delete_tasks_predictions", "retrieve_tasks_predictions"):
            answer = studio.ada.post(
                "/api/dm/actions/", params={"id": action} | actions, json=selected
            )
            assert answer.status_code == 200, answer.text
        again = open_tasks(studio, folder, 3)
        assert {dict(p)["model_version"] for t in again for p in t.predictions} == {"round 3"}
        assert len([p for t in again for p in t.predictions]) == 11

        # A wrong secret, and a project of somebody else.
        other = studio.api.projects.create(title="not ours", label_config="<View/>").id
        body = {
            "project": other, "url": server.address, "auth_method": "BASIC_AUTH",
            "basic_auth_user": "rlmba", "basic_auth_pass": SECRET,
        }  # fmt: skip
        assert studio.ada.post("/api/ml/", json=body).status_code == 400
        assert f"got a request of project {other}" in said[-1]
        refused = studio.ada.post("/api/ml/", json=body | {"basic_auth_pass": "wrong"})
        assert "authentication parameters" in refused.text
        assert "no secret or a wrong one" in said[-1]
    with pytest.raises(AnnotatorError, match="health check failed"):
        live.connect(server.address, SECRET)


def test_a_deleted_task_and_a_renamed_label(studio, project, serve):
    folder, truth = project
    server = serve("--secret", SECRET)
    server.until("connected with project")
    tasks = open_tasks(studio, folder, 0)
    studio.ada.delete(f"/api/tasks/{tasks[0].id}/").raise_for_status()
    config = studio.api.projects.get(number(folder)).label_config
    renamed = config.replace('value="cat"', 'value="kitten"')
    studio.api.projects.update(number(folder), label_config=renamed)
    for task in tasks[1:]:
        label = truth[task.data["sample_id"]]
        annotate(studio.ada, task, "kitten" if label == "cat" else label)
    server.until("restore its name and correct the annotation there")
    assert "kitten" in status(folder).trouble
    for task in studio.api.tasks.list(project=number(folder), fields="all"):
        for given in task.annotations:
            for result in given["result"]:
                value = result["value"]
                value["choices"] = ["cat" if c == "kitten" else c for c in value["choices"]]
            path = f"/api/annotations/{given['id']}/"
            studio.ada.patch(path, json={"result": given["result"]}).raise_for_status()
    (again,) = open_tasks(studio, folder, 0)
    assert again.data["sample_id"] == tasks[0].data["sample_id"]
    annotate(studio.ada, again, truth[again.data["sample_id"]])
    server.until("round 0: 5 labels")


def test_connecting_by_hand_and_a_second_server(studio, project, serve):
    folder, _ = project
    server = serve("--no-connect", "--secret", SECRET, "--address", "http://models.example/x/")
    server.until("round 0: 11 samples are with labelstudio")
    second = serve()
    text = "\n".join(server.lines)
    assert "Payload URL http://models.example/x/webhook" in text
    assert f"username rlmba, password {SECRET}" in text
    second.until("is being served to Label Studio by process")
    second.until("(ended)")
    assert studio.ada.get("/api/ml/", params={"project": number(folder)}).json() == []
