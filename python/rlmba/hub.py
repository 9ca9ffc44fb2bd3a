"""Check with one short request whether a model or data set can be fetched from the hub."""

from __future__ import annotations

__all__ = ["TIMEOUT", "out_of_reach"]

TIMEOUT = 10.0
"""Seconds to wait for an answer."""


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
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        return f"{'' if dataset else 'not cached, and '}cannot be fetched ({reason})"
    return ""
