from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def python(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_import_is_light():
    code = """
        import sys
        import rlmba
        heavy = {"torch", "numpy", "scipy", "sklearn", "rlmba._core"} & set(sys.modules)
        print(sorted(heavy))
    """
    assert python(code).stdout == "[]\n"


def test_rooms_are_loaded_on_first_use():
    code = """
        import rlmba
        assert rlmba.kernels.top_k.__name__ == "top_k"
        assert "kernels" in dir(rlmba)
        try:
            rlmba.nonsense
        except AttributeError as error:
            print(error)
    """
    done = python(code)
    assert (done.stdout.strip(), done.stderr) == (
        "module 'rlmba' has no attribute 'nonsense'",
        "",
    )


def test_select_is_there_without_torch_and_without_other_libraries():
    code = """
        import sys
        import rlmba
        assert "select" in dir(rlmba)
        import numpy as np
        print(rlmba.select("margin", logits=np.eye(3), n=1).positions.tolist())
        other = {"torch", "skactiveml", "modAL", "baal", "small_text", "fiftyone", "pyarrow", "sklearn"}
        print(sorted(other & set(sys.modules)))
    """
    done = python(code)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["[0]", "[]"], "")


@pytest.mark.parametrize("blocked", ["rlmba._core", "rlmba._core torch"])
def test_without_the_extension_answers_are_right_and_one_warning_is_given(blocked):
    code = f"""
        import sys, warnings
        for name in {blocked.split()!r}:
            sys.modules[name] = None
        import numpy as np
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            from rlmba import kernels
            from rlmba.errors import BackendError, RlmbaWarning
            values = np.array([0.5, 2.0, -1.0, 2.0])
            for _ in range(3):
                assert kernels.top_k(values, 3).indices.tolist() == [1, 3, 0]
            assert kernels.backends()["cpu"] is False
            assert kernels.instruction_set() is None
            assert kernels.num_threads() == 1
            try:
                kernels.top_k(values, 1, backend="cpu")
            except BackendError as error:
                print("refused", "reference" in str(error))
        print([w.category is RlmbaWarning for w in caught], "pip install" in str(caught[0].message))
    """
    done = python(code)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:2] == ["refused True", "[True] True"]


def test_commands_that_train_nothing_load_no_library_of_models(tmp_path):
    """In one process, one after the other; their imports take most of the time of such commands."""
    code = f"""
        import os, sys
        import numpy as np
        os.chdir({str(tmp_path)!r})
        rng = np.random.default_rng(0)
        np.savez("pool.npz", ids=np.arange(9).astype(str), logits=rng.normal(size=(9, 3)))
        os.mkdir("media")
        from rlmba.cli import main
        import rlmba.cli.show, rlmba.experiments.report, rlmba.annotators.browser
        for command in (
            "--help", "strategies", "datasets", "label --help", "data check food101 media",
            "select --strategy margin --pool pool.npz -n 2 --out batch.csv",
        ):
            main(command.split())
            heavy = {{"torch", "torchvision", "transformers", "sklearn", "scipy.stats", "matplotlib"}}
            loaded = sorted(heavy & set(sys.modules))
            assert not loaded, (command, loaded)
        print("last", os.path.exists("batch.csv"))
    """
    done = python(code)
    assert done.stdout.endswith("last True\n"), done.stderr
