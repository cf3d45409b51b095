"""Bundles from elsewhere: damaged, or made to exhaust, mislead or run something in whoever loads them."""

import copy
import json
import pickle
import random
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ssvq.errors import InputError
from ssvq.methods.build import load_method
from ssvq.model import bundle as bundles
from ssvq.model.bundle import DESCRIPTION, WEIGHTS
from tests.support.bundles import read_whole
from tests.support.surveys import make_bundle

NUMBER = 300
MOST_MEMORY = 300 * 2**20  # bytes over what the process had before
VALUES: list[Any] = [
    None, True, -1, 0, 3, 2**31, 2**63, 10**400, 1e999, float("nan"), 0.5, "", "x" * 10_000, "\ud800", "../../x",
    "a\nb", "<script>", [], [1], {}, {"a": {}}, [[[[]]]], "cos\nsystem\n(S'true'\ntR.",
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """The description and the weights of a sound bundle."""
    location = tmp_path_factory.mktemp("sound")
    make_bundle(location)
    return json.loads((location / DESCRIPTION).read_text()), (location / WEIGHTS).read_bytes()


@pytest.fixture(autouse=True)
def nothing_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever unpickles fails the test."""

    class NoUnpickler(pickle.Unpickler):
        def __init__(self, *_: Any, **__: Any) -> None:
            pytest.fail("something was unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("something was unpickled"))
    monkeypatch.setattr(pickle, "Unpickler", NoUnpickler)


def write(location: Path, description: Any, weights: bytes, *, sign: bool = True) -> str:
    """A bundle; signed, its description names these weights, so that their checksum does not save the reader."""
    location.mkdir(exist_ok=True)
    if sign and isinstance(description, dict):
        description = description | {"weights_sha256": bundles.sha256(weights)}
    (location / WEIGHTS).write_bytes(weights)
    text = description if isinstance(description, bytes) else json.dumps(description).encode()
    (location / DESCRIPTION).write_bytes(text)
    return str(location)


def refusal(location: str) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(InputError) as error:
        load_method(location, read_whole(location))
    return checked(location, str(error.value))


def checked(location: str, message: str) -> str:
    """A message, after checking its form."""
    assert message.isprintable()
    assert location in message or "is not known to this version" in message
    assert len(message) < 1000
    return message


def places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a description; of a list its first entry."""
    inner = (
        values.items() if isinstance(values, dict) else list(enumerate(values))[:1] if isinstance(values, list) else ()
    )
    return [found for key, value in inner for found in [(*path, key), *places(value, (*path, key))]]


def replaced(description: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The description with another value in a place."""
    changed = copy.deepcopy(description)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


def mutated(rng: random.Random, description: dict[str, Any], weights: bytes) -> tuple[Any, bytes]:
    """A description and weights, one of them changed."""
    kind = rng.randrange(6)
    if kind < 3:
        path = rng.choice(places(description))
        if rng.random() < 0.2:
            changed = copy.deepcopy(description)
            holder: Any = changed
            for key in path[:-1]:
                holder = holder[key]
            del holder[path[-1]]
            return changed, weights
        return replaced(description, path, rng.choice(VALUES)), weights
    if kind == 3:
        text = bytearray(json.dumps(description).encode())
        for _ in range(rng.choice((1, 5))):
            text[rng.randrange(len(text))] = rng.randrange(256)
        return bytes(text[: rng.randrange(len(text))] if rng.random() < 0.5 else text), weights
    damaged = bytearray(weights)
    if kind == 4:
        return description, bytes(damaged[: rng.randrange(len(damaged))])
    for _ in range(rng.choice((1, 5))):
        damaged[rng.randrange(1500)] = rng.randrange(256)
    return description, bytes(damaged)


def test_whatever_a_bundle_holds_it_loads_or_is_refused(tmp_path: Path, sound: tuple[dict[str, Any], bytes]) -> None:
    rng = random.Random(7)
    refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(NUMBER):
        location = write(tmp_path / "bundle", *mutated(rng, *sound))
        try:
            bundle = read_whole(location)
            load_method(location, bundle)
        except InputError as error:
            refused += 1
            checked(location, str(error))
        else:  # what is taken can be written into an output, and names nothing outside of it
            bundle.model_dump_json()
            assert set(bundle.model_id) <= set("0123456789abcdef")
            assert bundle.preprocessing.tiling.tile_size <= 4096
    assert refused > NUMBER / 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MEMORY


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model_id",), "../../../evil", "model_id"),
        (("model_id",), "0123456789abcdef\n", "model_id"),
        (("method",), "../os", "is not known to this version"),
        (("method",), "os\nsystem", "is not known to this version"),
        (("settings",), {"os": {}}, "'os'"),
        (("settings",), {}, "missing 3 required"),
        (("settings", "architecture"), [], "settings.architecture"),
        (("settings", "architecture", "hidden"), 100_000, "are not those that its settings describe"),
        (("settings", "architecture", "codes"), 10**12, "are not those that its settings describe"),
        (("settings", "architecture", "dimensions"), 2**62, "is damaged"),
        (("settings", "architecture", "residual_layers"), 10**9, "more layers than there are weights"),
        (("settings", "architecture", "hidden"), "16; rm", "hidden"),
        (("preprocessing", "tile_size"), 10**9, "preprocessing.tile_size"),
        (("preprocessing", "tile_size"), 0, "preprocessing.tile_size"),
        (("preprocessing", "tile_size"), 33, "not a multiple of the cell"),
        (("preprocessing", "std"), [0.0, 1.0, 1.0], "preprocessing.std"),
        (("calibration", "threshold"), float("nan"), "is not JSON"),
        (("calibration", "normal_scores", 0), "1e999", "normal_scores"),
        (("training",), {}, "training"),
        (("version",), 10**400, "has version 1000"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, sound: tuple[dict[str, Any], bytes], path: tuple[Any, ...], value: Any, message: str
) -> None:
    assert message in refusal(write(tmp_path / "bundle", replaced(sound[0], path, value), sound[1]))


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"version": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"version": ' + b"1" * 5000 + b"}",
        b'{"version": Infinity}',
        b'{"version": 2, "model_id": "\\ud800"}',
        b" " * (64 * 2**20 + 1),
    ],
    ids=["deep", "deep value", "digits", "infinity", "half a character", "large"],
)
def test_json_that_is_made_to_break_its_reader(
    tmp_path: Path, sound: tuple[dict[str, Any], bytes], text: bytes
) -> None:
    assert "is not JSON" in (said := refusal(write(tmp_path / "bundle", text, sound[1]))) or "more than any" in said


def header(tensors: dict[str, Any], data: bytes = b"") -> bytes:
    """safetensors with any header."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


class Evil:
    """Runs something where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40),
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
        header({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, bytes(4)),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}, bytes(8)),
        header({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        header({f"a{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(10_000)}),
        pickle.dumps(Evil()),
        b"PK\x03\x04" + pickle.dumps(Evil()),
    ],
    ids=["empty", "length", "beyond", "shape", "offsets", "backwards", "dtype", "many", "pickle", "zip"],
)
def test_weights_that_are_none(tmp_path: Path, sound: tuple[dict[str, Any], bytes], weights: bytes) -> None:
    refusal(write(tmp_path / "bundle", sound[0], weights))


def changed_weights(tensors: dict[str, torch.Tensor], change: str) -> dict[str, torch.Tensor]:
    first = next(iter(tensors))
    if change == "missing":
        return {name: tensor for name, tensor in tensors.items() if name != first}
    changed = {
        "surplus": {"__class__": torch.zeros(1)},
        "shape": {first: torch.zeros(*tensors[first].shape, 2)},
        "whole numbers": {first: torch.zeros_like(tensors[first], dtype=torch.int64)},
        "complex": {first: torch.zeros_like(tensors[first], dtype=torch.complex64)},
    }
    return tensors | changed[change]


@pytest.mark.parametrize("change", ["missing", "surplus", "shape", "whole numbers", "complex"])
def test_sound_safetensors_of_something_else(tmp_path: Path, sound: tuple[dict[str, Any], bytes], change: str) -> None:
    weights = safetensors.torch.save(changed_weights(safetensors.torch.load(sound[1]), change))
    assert "not those that its settings describe" in refusal(write(tmp_path / "bundle", sound[0], weights))


def test_a_path_in_the_settings_is_not_followed(tmp_path: Path) -> None:
    """DifferNet's settings may name a file of weights, for its training; what loads a bundle does not open it."""
    planted = tmp_path / "planted.pth"
    planted.write_bytes(pickle.dumps(Evil()))
    description = json.loads((Path(_bundle_of_differnet(tmp_path / "flow")) / DESCRIPTION).read_text())
    weights = (tmp_path / "flow" / WEIGHTS).read_bytes()
    changed = replaced(description, ("settings", "flow", "alexnet"), str(planted))
    refusal(write(tmp_path / "bundle", changed, weights))


def _bundle_of_differnet(location: Path) -> str:
    from ssvq.methods.build import build_method, method_settings
    from tests.support.surveys import tiny_training

    config = tiny_training(Path("survey"), location, method="differnet")
    settings = method_settings(config)
    weights = bundles.encode_weights(build_method("differnet", settings).state_dict())
    changes = {"method": "differnet", "settings": settings, "weights_sha256": bundles.sha256(weights)}
    bundles.save_bundle(str(location), make_bundle(location).model_copy(update=changes), weights)
    return str(location)
