"""All state files of rlmba: however damaged, a file is read, or refused with its name."""

from __future__ import annotations

import json
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rlmba.annotators import LabelBatch, Question, Tickets
from rlmba.annotators.browser.answer_log import AnswerEvent, AnswerLog
from rlmba.annotators.browser.page_state import PageState
from rlmba.annotators.labelstudio.projects import ServerProjects, _State
from rlmba.config import RunConfig
from rlmba.data.media.cache import CacheReader, read_cache_info, verify
from rlmba.data.media.check import check, known_outcomes
from rlmba.data.media.prepare import prepare
from rlmba.errors import CheckpointError, DataError, RlmbaError
from rlmba.experiments.find_runs import find_runs
from rlmba.experiments.policy_training.folder import TrainingFolder, TrainingProgress
from rlmba.experiments.sweep.folder import RunFailure, latest_figures, write_failure
from rlmba.learner import Trained, run
from rlmba.learner.state import read_state
from rlmba.method.agent import Agent
from rlmba.method.policy_file import read_policy
from rlmba.project.folder import Project
from rlmba.runfolder.labels import Answer, LabelLog
from rlmba.runfolder.pending import PendingRound, write_pending
from rlmba.runfolder.store import RunStore, read_run
from rlmba.training import load_model, load_tensors
from rlmba.training.checkpoint import save_tensors
from tests.helpers import cache_media
from tests.helpers.mutations import BOUNDED, mutated_bytes, mutated_json, read_or_refused

SHORT = {
    "dataset": "digits",
    "rounds": 1,
    "initial_labels": 20,
    "batch_size": 10,
    "epochs": 1,
    "training": {"min_steps": 0},
    "model": {"width": 8},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(RunConfig.model_validate(SHORT), tmp_path_factory.mktemp("run") / "r").path


def resumed(path):
    """Read everything that resuming a run reads, except its model."""
    with RunStore.resume(path) as store:
        store.split()
        store.labeled()
        records = store.records
    if records:
        names = tuple(records[-1].weights)
        read_state(path / "checkpoints" / "round_001", records[-1], names)
    latest_figures(path)


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "split.json",
        "rounds.jsonl",
        "selected/round_001.json",
        "checkpoints/round_001/state.json",
    ],
)
@BOUNDED
@given(data=st.data())
def test_run_folder(finished, name, data):
    text = (finished / name).read_text()
    first, _, rest = text.partition("\n") if name.endswith("l") else (text, "", "")
    new = data.draw(mutated_json(first))
    read_or_refused(finished / name, new + b"\n" + rest.encode(), lambda: resumed(finished))


@pytest.mark.parametrize("name", ["network.json", "model.safetensors"])
@BOUNDED
@given(data=st.data())
def test_checkpoint(finished, name, data):
    file = finished / "checkpoints" / "round_001" / name
    strategy = (
        mutated_json(file.read_text())
        if name.endswith("json")
        else mutated_bytes(file.read_bytes())
    )
    read_or_refused(file, data.draw(strategy), lambda: Trained.load(finished))


def batch(folder):
    asked = [Question(f"s{i}", i + 1, files={"image": f"{folder}/{i}.png"}) for i in range(3)]
    return LabelBatch(1, ("a", "b"), True, {"image": 1.0}, tuple(asked))


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path, RunConfig(), LabelLog(tmp_path / "labels.jsonl"), [])
    ticket = Tickets(tmp_path / "tickets" / "browser").write(batch(tmp_path), {"again": 1})
    seconds, backends = {"predict": 0.1}, {"top_k": "cpu"}
    pending = PendingRound(1, ["s0", "s1"], ["s1"], [0.5], seconds, {}, backends, "browser", ticket)
    write_pending(tmp_path, pending)
    made.log.append([Answer("s0", "a", "manifest"), Answer("s1", None, f"browser/{ticket}")])
    return made


def looked_at(path):
    there = Project(path, RunConfig(), LabelLog(path / "labels.jsonl"), [])
    there.pending()
    there.log.current()
    Tickets(path / "tickets" / "browser").read("round_001")
    page = PageState(path).current()
    if isinstance(page, str):
        assert "round" in page or "rlmba next" in page or "annotator" in page


@pytest.mark.parametrize("name", ["pending.json", "labels.jsonl", "tickets/browser/round_001.json"])
@BOUNDED
@given(data=st.data())
def test_project_folder(project, name, data):
    text = (project.path / name).read_text()
    first, _, rest = text.partition("\n") if name.endswith("l") else (text, "", "")
    new = data.draw(mutated_json(first))
    read_or_refused(
        project.path / name, new + b"\n" + rest.encode(), lambda: looked_at(project.path)
    )


@BOUNDED
@given(data=st.data())
def test_answers_of_a_browser(tmp_path, data):
    file = tmp_path / "round_000.jsonl"
    log = AnswerLog(file)
    file.unlink(missing_ok=True)
    log.append(AnswerEvent("a", "x", "me", "tab"), lambda _: True)
    log.append(AnswerEvent("b", None), lambda _: True)
    line, rest = file.read_bytes().split(b"\n", 1)
    file.write_bytes(data.draw(mutated_json(line.decode())).replace(b"\n", b"") + b"\n" + rest)
    answers = AnswerLog(file).read()
    assert "b" in answers.current or "b" in line.decode()


@BOUNDED
@given(data=st.data())
def test_state_of_label_studio(tmp_path, data):
    projects = ServerProjects(tmp_path / "server.json", "t", prelabel=False, instructions="")
    projects._write(_State("abc", {"http://x": {"questions": 3}}))
    new = data.draw(mutated_json(projects.path.read_text()))
    read_or_refused(projects.path, new, projects._read)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    out = root / "cache"
    made = cache_media.make_files(root / "files", 8, missing=(3,), broken=(5,))
    prepare(made, cache_media.RECIPE, out, workers=1, decode=cache_media.decode)
    index = root / "index.jsonl"
    check(made, cache_media.RECIPE, index=index, decode=cache_media.decode, workers=1)
    return SimpleNamespace(path=out, catalogue=made, index=index)


def all_of(path):
    read_cache_info(path)
    reader = CacheReader(path)
    for position in range(len(reader)):
        reader.read(position)
    verify(path)


@pytest.mark.parametrize("name", ["cache.json", "samples-*.json", "shards/00000.json"])
@BOUNDED
@given(data=st.data())
def test_cache(cache, name, data):
    (file,) = cache.path.glob(name)
    new = data.draw(mutated_json(file.read_text()))
    read_or_refused(file, new, lambda: all_of(cache.path))


@pytest.mark.parametrize("name", ["a" * 300, "../samples.json", "", "a\0b"])
def test_a_list_of_a_cache_under_an_impossible_name(cache, name):
    file = cache.path / "cache.json"
    before = file.read_text()
    whole = json.loads(before)
    file.write_text(json.dumps({**whole, "samples": {**whole["samples"], "file": name}}))
    try:
        with pytest.raises(DataError, match=r"cache\.json is damaged: expected .* name"):
            read_cache_info(cache.path)
    finally:
        file.write_text(before)


def test_a_class_of_a_cache_that_no_file_can_hold(cache):
    file = cache.path / "cache.json"
    whole = json.loads(file.read_text())
    content = json.dumps({**whole, "classes": ["\ud800", *whole["classes"][1:]]}).encode()
    read_or_refused(file, content, lambda: all_of(cache.path))


@BOUNDED
@given(data=st.data())
def test_shard(cache, data):
    file = cache.path / "shards" / "00000.safetensors"
    new = data.draw(mutated_bytes(file.read_bytes()[:600]))
    read_or_refused(file, new + file.read_bytes()[600:], lambda: all_of(cache.path))


@BOUNDED
@given(data=st.data())
def test_index_of_a_check(cache, data):
    first, second, rest = cache.index.read_text().split("\n", 2)
    lines = [first, second]
    at = data.draw(st.integers(0, 1))
    lines[at] = data.draw(mutated_json(lines[at])).decode("utf-8", "replace")
    content = "\n".join([*lines, rest]).encode("utf-8", "replace")
    read_or_refused(
        cache.index,
        content,
        lambda: known_outcomes(cache.catalogue, cache_media.RECIPE, cache.index),
    )


@BOUNDED
@given(data=st.data())
def test_policy(tmp_path, data):
    agent = Agent(hidden=3)
    path = tmp_path / "policy.safetensors"
    agent.save(path, strategy="rlmba", facts={"tasks": ["a"]})
    new = data.draw(mutated_bytes(path.read_bytes()))
    read_or_refused(path, new, lambda: Agent.load(path, strategy="rlmba"))


@BOUNDED
@given(data=st.data())
def test_checkpoint_of_a_policys_training(tmp_path, data):
    agent = Agent(hidden=3)
    step = dict.fromkeys(("return", "moving_return", "entropy", "gradient_norm"), 1.0)
    step |= {"step": 0, "episodes": 4, "returns": {"a": 1.0}}
    identity = {"settings": {"episodes": 4}}
    folder = TrainingFolder(tmp_path, identity)
    folder.keep(TrainingProgress(agent.state_dict(), [step]))
    file = tmp_path / "checkpoint.safetensors"

    def read():
        with TrainingFolder.open(tmp_path, identity, resume=True) as (_, progress):
            pass
        with suppress(CheckpointError):  # to which the trainer adds the folder's name
            Agent(hidden=3).load_state_dict(progress.agent)

    read_or_refused(file, data.draw(mutated_bytes(file.read_bytes())), read)


@BOUNDED
@given(data=st.data())
def test_a_failures_file_never_hides_the_run(tmp_path, data):
    write_failure(tmp_path / "r", RunFailure.of(ValueError("no")))
    file = tmp_path / "r" / "failure.json"
    file.write_bytes(data.draw(mutated_json(file.read_text())))
    with pytest.raises(RlmbaError, match="failed: "):
        find_runs([tmp_path])
    write_failure(tmp_path / "r", RunFailure.of(ValueError("no")))


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "complex64"])
def test_tensors_of_types_that_nothing_here_computes_with(tmp_path, kind):
    file = tmp_path / "t.safetensors"
    save_file({"a": torch.ones(2), "b": torch.ones(2).to(getattr(torch, kind))}, file)
    with pytest.raises(CheckpointError, match=r"t\.safetensors: .*tensor 'b' is of the type"):
        load_tensors(file, config={})
    file.rename(tmp_path / "policy.safetensors")
    with pytest.raises(CheckpointError, match=r"policy\.safetensors: .*tensor 'b' is of the type"):
        read_policy(tmp_path / "policy.safetensors", strategy="rlmba")


def test_weights_of_another_type_are_not_converted_in_silence(tmp_path):
    network = torch.nn.Linear(2, 1)
    file = tmp_path / "t.safetensors"
    save_tensors(file, {k: v.double() for k, v in network.state_dict().items()}, config={})
    with pytest.raises(CheckpointError, match=r"weight is torch\.float64, not torch\.float32"):
        load_model(file, network, config={})


@pytest.mark.parametrize(
    "name", ["run.json", "rounds.jsonl", "split.json", "checkpoints/round_001/network.json"]
)
def test_a_folder_in_a_files_place(finished, name):
    file = finished / name
    aside = file.rename(file.with_name("aside"))
    file.mkdir()
    read = Trained.load if name.startswith("checkpoints") else resumed
    try:
        with pytest.raises(RlmbaError, match=file.name):
            read(finished)
    finally:
        file.rmdir()
        aside.rename(file)
    assert read_run(finished).records
