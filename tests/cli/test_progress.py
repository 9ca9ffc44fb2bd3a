"""Progress of long work where standard error is not a terminal."""

from __future__ import annotations

import time

from rlmba.cli import counter
from rlmba.cli.progress import run_progress


def test_long_computation_of_features_is_shown_until_it_ends(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(counter, "SECONDS", 0.02)
    with run_progress(tmp_path) as observer:
        observer.features(0, 2000)
        observer.features(10, 2000)
        printed = ""
        deadline = time.monotonic() + 20
        while "features: 10 of 2,000" not in printed and time.monotonic() < deadline:
            time.sleep(0.01)
            printed += capsys.readouterr().err
        observer.features(2000, 2000)
        time.sleep(0.5)
        capsys.readouterr()
        time.sleep(0.1)
        assert capsys.readouterr().err == ""
    assert "computing features of 2,000 samples" in printed
    assert "features: 10 of 2,000" in printed
