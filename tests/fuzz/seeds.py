#!/usr/bin/env python3
"""Writes what the fuzz targets begin with: one folder for each, made of vectors, examples and regressions.

    tests/fuzz/seeds.py FOLDER
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
ROOT = TESTS.parent

# The byte before an encoding says of what it is; `rig/entry.rs` knows the same order.
CODEC = ["u64", "i64", "string", "option<string>", "list<string>", "map<string,string>"]
FRAMES = ("to_hub", "to_bridge", "to_runner", "to_link", "output_header")


def vectors():
    for path in sorted((TESTS / "vectors").glob("*.json")):
        for vector in json.loads(path.read_text()).get("vectors", []):
            yield vector


def of_vector(vector):
    """The targets that a vector is a seed of, and the bytes for each."""
    kind = vector["kind"]
    data = bytes.fromhex(vector["hex"])
    if kind in CODEC:
        yield "codec", bytes([CODEC.index(kind)]) + data
    if kind.startswith("signed<"):
        yield "envelope", data
        for number, name in ((6, "signed<job>"), (7, "signed<hello>")):
            if kind == name and "body" in vector:
                yield "codec", bytes([number]) + bytes.fromhex(vector["body"])
    if kind in FRAMES:
        yield "frames", data
    if kind in ("enrol_request", "enrol_answer"):
        yield "enrolment_request", data
        if kind == "enrol_request" and "fields" in vector:
            yield "enrolment_request", bytes.fromhex(vector["fields"]["request"])
    if kind in ("record", "log"):
        yield "output_records", b"\x05" + data
    if kind == "token":
        yield "token", vector["text"].encode()
    if kind == "token_text":
        yield "token", data


def seeds():
    for vector in vectors():
        for target, data in of_vector(vector):
            yield target, vector["name"], data
    for path in sorted((ROOT / "examples").glob("*/*.yaml")):
        yield "template", f"{path.parent.name}-{path.stem}", path.read_bytes()
    for folder in ("seeds", "regressions"):
        for path in sorted((HERE / folder).glob("*/*")):
            yield path.parent.name, f"{folder}-{path.name}", path.read_bytes()


def main(folder):
    count = {}
    for target, name, data in seeds():
        (folder / target).mkdir(parents=True, exist_ok=True)
        (folder / target / name).write_bytes(data)
        count[target] = count.get(target, 0) + 1
    print(", ".join(f"{target}: {count[target]}" for target in sorted(count)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
