"""Removes credentials from everything that is written: lines, errors, ledgers and saved settings."""

import os
import re

# Values of these variables are never written. A shorter value would match ordinary words.
SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RAY_AUTH_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "WANDB_API_KEY",
)
SHORTEST_SECRET = 8
HIDDEN = "***"

_USER = re.compile(r"(?<=://)[^/\s]+@")
_SIGNATURE = re.compile(
    r"(?i)\b((?:x-(?:amz|goog)-(?:credential|signature|security-token)|awsaccesskeyid|signature|sig)=)[^&\s'\"]+"
)
_ACCESS_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")


def redact(text: str) -> str:
    """The text without users and passwords in addresses, presigned signatures, and the keys of the environment."""
    text = _SIGNATURE.sub(rf"\1{HIDDEN}", _USER.sub("", text))
    text = _ACCESS_KEY_ID.sub(HIDDEN, text)
    for name in SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    return text


def refuse_credentials(location: str, advice: str = "give credentials by the AWS variables") -> str:
    """Returns the location. Raises ValueError if it holds a password or a signature, which would be saved beside the
    output and in every row.
    """
    if "://" in location and (_USER.search(location) or _SIGNATURE.search(location)):
        raise ValueError(f"an address with a password or a signature in it would be saved with the output; {advice}")
    return location
