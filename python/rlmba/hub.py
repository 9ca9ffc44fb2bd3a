"""Whether a hub of models is within reach, asked once and briefly."""

from __future__ import annotations

__all__ = ["PATIENCE", "out_of_reach"]

PATIENCE = 10.0
"""Seconds that a connection may give no answer."""


def out_of_reach(name: str) -> str:
    """Why the Hugging Face hub does not give a repository; "" if it does.

    One request: left to itself, transformers asks six times for each file.
    """
    import huggingface_hub

    try:
        url = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
    except Exception as error:  # of the HTTP library, which differs by version, or of the hub
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        return f"not cached, and not to be fetched ({reason})"
    return ""
