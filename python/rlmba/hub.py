"""Whether a hub of models and data sets is within reach, asked once and briefly."""

from __future__ import annotations

__all__ = ["PATIENCE", "out_of_reach"]

PATIENCE = 10.0
"""Seconds that a connection may give no answer."""


def out_of_reach(name: str, *, dataset: bool = False) -> str:
    """Why the Hugging Face hub does not give a repository, a model's or a data set's; "" if it does.

    One request: left to themselves, its libraries ask six times for each file.
    """
    import huggingface_hub

    try:
        if dataset:
            huggingface_hub.HfApi().dataset_info(name, timeout=PATIENCE)
            return ""
        url = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
    except Exception as error:  # of the HTTP library, which differs by version, or of the hub
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        return f"{'' if dataset else 'not cached, and '}not to be fetched ({reason})"
    return ""
