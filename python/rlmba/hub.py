"""The Hugging Face hub: check that it can be reached, and upload and download folders of models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rlmba.errors import UsageError

__all__ = ["TIMEOUT", "check_push", "download", "is_hub_name", "out_of_reach", "push"]

TIMEOUT = 10.0
"""Seconds to wait for an answer."""
_PART = r"(?![-.])[\w.-]{1,96}(?<![-.])"
_NAME = re.compile(rf"(?!.*(--|\.\.))(?:{_PART}/)?{_PART}", re.ASCII)


def out_of_reach(name: str, *, dataset: bool = False) -> str:
    """Why a model or data set cannot be fetched from the Hugging Face hub; "" if it can.

    It makes a single request, because the hub's libraries would retry six times for each file.
    """
    import huggingface_hub

    try:
        if dataset:
            huggingface_hub.HfApi().dataset_info(name, timeout=TIMEOUT)
            return ""
        url = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT)
    except Exception as error:  # the HTTP library, which differs by version, or the hub
        return f"{'' if dataset else 'not cached, and '}cannot be fetched ({_reason(error)})"
    return ""


def _reason(error: Exception) -> str:
    """The first line of an error message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def is_hub_name(name: str) -> bool:
    """Whether a text may name a repository on the hub, such as ``owner/model``."""
    return _NAME.fullmatch(name) is not None


def check_push(name: str) -> None:
    """Check with one request that the user is logged in on the hub, before an upload is prepared.

    Raises
    ------
    UsageError
        If the name is not valid for a repository, there is no network, or the user is not logged in.
    """
    import huggingface_hub

    if name.count("/") != 1 or not is_hub_name(name):
        raise UsageError(
            f"--hub: expected the name of a repository, such as owner/model, got {name!r}; the owner is your "
            "user name or your organization"
        )
    try:
        huggingface_hub.HfApi().whoami()
    except Exception as error:  # the HTTP library, which differs by version, or the hub
        raise _refused(name, error) from error


def push(folder: Path, name: str, *, private: bool) -> str:
    """Upload all files of a folder to a model's repository in one commit; create the repository if needed.

    Parameters
    ----------
    folder : path
    name : str
        Such as ``owner/model``.
    private : bool
        Whether a new repository is private. The visibility of an existing repository is not changed.

    Returns
    -------
    str
        The address of the repository.

    Raises
    ------
    UsageError
        If the hub refuses the upload or cannot be reached.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by rlmba export")
    except Exception as error:  # the HTTP library, which differs by version, or the hub
        raise _refused(name, error) from error
    return str(url)


def _refused(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"--hub: {name} could not be written on the hub ({_reason(error)}); check the network, and that you "
        "are logged in (`hf auth login`, or HF_TOKEN) and may write there. To upload a folder later, write "
        f"it with --out FOLDER and run `hf upload {name} FOLDER`"
    )


def download(name: str, files: Sequence[str], *, revision: str | None = None) -> Path:
    """Return a folder with some files of a model on the hub: downloaded, or from the hub's cache.

    Parameters
    ----------
    name : str
    files : sequence of str
        Names of the files; nothing else is downloaded.
    revision : str or None
        A branch, a tag or a commit; None: the main branch.

    Raises
    ------
    UsageError
        If the model is neither reachable nor cached. Only one request is made, without retries.
    """
    from huggingface_hub import constants, snapshot_download

    why = "is not cached, and HF_HUB_OFFLINE does not allow downloads"
    if not constants.HF_HUB_OFFLINE:
        why = out_of_reach(name)
    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=list(files), local_files_only=bool(why)
        )
    except Exception as error:
        raise UsageError(
            f"{name}: expected a folder, or a model on the hub; there is no such folder here, and the model "
            f"{why or f'cannot be fetched ({_reason(error)})'}; check the name and the network"
        ) from error
    return Path(found)
