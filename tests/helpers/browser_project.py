"""A small project with media of every kind, its page over HTTP, and processes that serve it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

from rlmba.annotators import LabelBatch, Question, create
from rlmba.annotators.browser import start
from rlmba.runfolder.settings import FORMAT
from tests.helpers.media_files import write_clip, write_image, write_wav

CLASSES = ("cat", "dog", "bird")
HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"


def make_batch(media, *, number=0, n=4, classes=CLASSES, more=False, prefix="sample"):
    """Questions with an image, a text, a sound and a clip by turns, several together in the first."""
    media.mkdir(exist_ok=True)
    questions = []
    for k in range(n):
        texts, files = {}, {}
        if k % 4 in (0, 1):
            files["image"] = str(write_image(media / f"{k}.jpg", seed=k, label=k))
        if k % 4 in (0, 2):
            files["audio"] = str(write_wav(media / f"{k}.wav", seed=k, label=k, seconds=0.5))
        if k % 4 in (0, 3):
            clip = media / f"{k}.webm"
            files["video"] = str(write_clip(clip, seed=k, label=k, seconds=1.0, size=(64, 48)))
        if k % 4 in (0, 1):
            texts["text"] = f"words of sample {k}"
        questions.append(
            Question(
                id=f"{prefix} {k}",
                rank=k + 1,
                purpose="validation" if k == 1 else "train",
                prediction=classes[k % len(classes)] if k else None,
                probability=0.5 if k else None,
                difficulty=0.01 * k,
                texts=texts,
                files=files,
            )
        )
    return LabelBatch(number, tuple(classes), more, {"image": 1.0}, tuple(questions))


class Project:
    """A project's folder as `rlmba next` leaves it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.configure()
        self.annotator = create("browser", self.folder)

    def configure(self, options=None):
        project = {"annotator": "browser", "annotator_options": options or {}}
        (self.folder / "config.yaml").write_text(json.dumps({"project": project}))
        (self.folder / "run.json").write_text(json.dumps({"format": FORMAT, "project": True}))

    def ask(self, batch):
        ticket = self.annotator.request(batch)
        pending = {"round": batch.round, "annotator": "browser", "ticket": ticket}
        (self.folder / "pending.json").write_text(json.dumps(pending))
        return ticket

    def answers(self, ticket="round_000"):
        path = self.folder / "answers" / f"{ticket}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def start(self, **options):
        return start(self.folder, port=0, **options)


class Client:
    """A browser's requests without a browser."""

    def __init__(self, url, session="one"):
        parts = urlsplit(url)
        self.base = f"{parts.scheme}://{parts.netloc}"
        self.session = session
        # The machine's settings of a proxy are not for what stays on it.
        self.http = httpx.Client(base_url=self.base, trust_env=False, timeout=20)
        self.token = parse_qs(parts.query)["token"][0]
        self.http.get("/", params={"token": self.token}).raise_for_status()

    def state(self, **query):
        return self.get("/api/state", session=self.session, **query).json()

    def get(self, path, headers=None, **query):
        return self.http.get(path, params=query, headers=headers)

    def post(self, path, body, **headers):
        return self.http.post(path, json=body, headers={"Origin": self.base, **headers})

    def next(self, ticket="round_000", **more):
        body = {"ticket": ticket, "session": self.session, **more}
        return self.post("/api/next", body).json()

    def say(self, sample, label, *, ticket="round_000", base=0, **more):
        body = {
            "ticket": ticket,
            "session": self.session,
            "id": sample,
            "label": label,
            "base": base,
        }
        return self.post("/api/answer", {**body, **more})

    def media(self, sample, modality, ticket="round_000", headers=None):
        return self.get("/media", headers=headers, ticket=ticket, id=sample, modality=modality)


def launch_label(folder, *arguments, descriptors=None):
    """`rlmba label` as a process of its own, with so many descriptors, and the link it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rlmba", "label", str(folder), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if descriptors is not None:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
    line = process.stdout.readline()
    if not line.startswith("label here: "):
        process.kill()
        raise AssertionError(line + process.communicate()[1])
    return process, line.split(": ", 1)[1].strip()
