"""Reads bundles whose weights need not be those of a method."""

from ssvq.model.bundle import read_description, read_weights
from ssvq.model.description import Bundle


def read_whole(location: str) -> Bundle:
    """The description of a bundle whose weights are there and are those that it describes."""
    bundle = read_description(location)
    read_weights(location, bundle)
    return bundle
