#!/usr/bin/env python3
"""Checks the vectors beside it, knowing nothing but docs/protocol.md.

It takes the layouts from the tables of that page. It reads every vector, compares it with its fields,
writes the fields again, verifies every signature, and refuses what must be refused, for the reason given.
It ends with an error at the first difference.
"""
import base64
import hashlib
import json
import pathlib
import re
import sys
import uuid
from datetime import datetime, timedelta, timezone

sys.dont_write_bytecode = True
from ed25519 import public_of, verify  # noqa: E402
from layouts import layouts  # noqa: E402

FRAME_MAX, BODY_MAX, RECORD_MAX = 262144, 229376, 65536
BITS = {"u16": 16, "u32": 32, "u64": 64, "i32": 32, "i64": 64}
FIXED = {"bytes16": 16, "bytes32": 32, "id": 16, "digest": 32, "pin": 32, "key": 32}
# How the two kinds of SubjectPublicKeyInfo begin, with P-256 and with Ed25519.
SPKI = (bytes.fromhex("3059301306072a8648ce3d0201"), bytes.fromhex("302a300506032b6570032100"))
FRAMED = ("to_bridge", "to_hub", "to_link", "to_runner", "output_header", "file_to_hub", "file_to_bridge")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
HERE = pathlib.Path(__file__).parent
KEYS = {name: {part: bytes.fromhex(text) for part, text in key.items()}
        for name, key in json.loads((HERE / "keys.json").read_text())["keys"].items()}
TABLES, CHOICES, SIGNED = layouts((HERE.parent.parent / "docs" / "protocol.md").read_text())


class Refused(Exception):
    """Bytes that must not be believed; the argument is the reason."""


def need(holds, reason):
    if not holds:
        raise Refused(reason)


def agree(holds, what):
    if not holds:
        raise AssertionError(what)


def parts(kind):
    """The parts of a pair or a map: `id,u64`."""
    return re.fullmatch(r"([^,]+),(.+)", kind).groups()


class Reader:
    def __init__(self, data, keys):
        self.data, self.at, self.keys = data, 0, keys

    def take(self, count):
        need(count <= len(self.data) - self.at, "malformed")
        self.at += count
        return self.data[self.at - count:self.at]

    def varint(self, bits):
        first = self.take(1)[0]
        if first < 251:
            return first
        need(first <= 253 and 16 << (first - 251) <= bits, "malformed")
        return int.from_bytes(self.take(2 << (first - 251)), "little")

    def read(self, kind):
        if kind in BITS:
            number = self.varint(BITS[kind])
            return number if kind[0] == "u" else (number >> 1) ^ -(number & 1)
        if kind in FIXED:
            data = self.take(FIXED[kind])
            return str(uuid.UUID(bytes=data)) if kind == "id" else "sha256:" * (kind == "pin") + data.hex()
        if kind == "bool":
            byte = self.take(1)[0]
            need(byte < 2, "malformed")
            return byte == 1
        if kind == "bytes":
            return self.take(self.varint(64)).hex()
        if kind == "string":
            try:
                return self.take(self.varint(64)).decode()
            except UnicodeDecodeError:
                raise Refused("malformed") from None
        if kind == "timestamp":
            at = EPOCH + timedelta(milliseconds=self.varint(64))
            return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"
        if kind[0] == "(":
            return [self.read(part) for part in parts(kind[1:-1])]
        if kind in TABLES:
            return {name: self.read(part) for name, part in TABLES[kind]}
        if kind in CHOICES:
            number = self.varint(32)
            need(number < len(CHOICES[kind]), "malformed")
            word, carried = CHOICES[kind][number]
            if isinstance(carried, list):
                return {word: {name: self.read(part) for name, part in carried}}
            return {word: self.read(carried)} if carried else word
        outer, inner = re.fullmatch(r"(\w+)<(.*)>", kind).groups()
        if outer == "option":
            return self.read(inner) if self.read("bool") else None
        if outer == "list":
            return [self.read(inner) for _ in range(self.varint(64))]
        if outer == "map":
            return {self.read(part): self.read(value) for _ in range(self.varint(64))
                    for part, value in [parts(inner)]}
        return self.envelope(inner)

    def envelope(self, kind):
        key, body, signature = self.take(32), self.take(self.varint(64)), self.take(self.varint(64))
        need(len(signature) == 64, "malformed")
        trusted = self.keys or [KEYS[SIGNED[kind][1]]]
        public = next((known["public"] for known in trusted if known["id"] == key), None)
        signed = public is not None and len(body) <= BODY_MAX and verify(public, pae(SIGNED[kind][0], body), signature)
        return {"key": key.hex(), "body": (kind, body) if not signed else decode(kind, body),
                "signature": signature.hex()}


def encode(kind, value):
    if kind in BITS:
        number = value if kind[0] == "u" else value << 1 if value >= 0 else -(value << 1) - 1
        if number < 251:
            return bytes([number])
        mark = 0 if number < 1 << 16 else 1 if number < 1 << 32 else 2
        return bytes([251 + mark]) + number.to_bytes(2 << mark, "little")
    if kind in FIXED:
        return bytes.fromhex(value.removeprefix("sha256:").replace("-", ""))
    if kind == "bool":
        return bytes([value])
    if kind in ("bytes", "string"):
        data = bytes.fromhex(value) if kind == "bytes" else value.encode()
        return encode("u64", len(data)) + data
    if kind == "timestamp":
        at = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return encode("u64", (at - EPOCH) // timedelta(milliseconds=1))
    if kind[0] == "(":
        return b"".join(map(encode, parts(kind[1:-1]), value))
    if kind in TABLES:
        return b"".join(encode(part, value[name]) for name, part in TABLES[kind])
    if kind in CHOICES:
        word = value if isinstance(value, str) else next(iter(value))
        number = [case for case, _ in CHOICES[kind]].index(word)
        carried, out = CHOICES[kind][number][1], encode("u32", number)
        if isinstance(carried, list):
            return out + b"".join(encode(part, value[word][name]) for name, part in carried)
        return out + (encode(carried, value[word]) if carried else b"")
    outer, inner = re.fullmatch(r"(\w+)<(.*)>", kind).groups()
    if outer == "option":
        return b"\0" if value is None else b"\1" + encode(inner, value)
    if outer == "list":
        return encode("u64", len(value)) + b"".join(encode(inner, item) for item in value)
    if outer == "map":
        key, item = parts(inner)
        pairs = sorted((name.encode(), encode(key, name) + encode(item, each)) for name, each in value.items())
        return encode("u64", len(value)) + b"".join(pair for _, pair in pairs)
    body = value["body"][1] if isinstance(value["body"], tuple) else encode(inner, value["body"])
    return bytes.fromhex(value["key"]) + encode("bytes", body.hex()) + encode("bytes", value["signature"])


def decode(kind, data, keys=None):
    """Reads strictly; an envelope whose signature does not hold keeps its body unread, and is refused."""
    need(len(data) <= FRAME_MAX, "too_large")
    reader = Reader(data, keys)
    value = reader.read(kind)
    need(reader.at == len(data), "malformed")
    need(encode(kind, value) == data, "not_canonical")
    need(not unsigned(value), "not_signed")
    return value


def unsigned(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return isinstance(value, tuple) or any(map(unsigned, inner))


def pae(payload_type, body):
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(body), body)


def unframe(data):
    need(len(data) >= 4, "malformed")
    length = int.from_bytes(data[:4], "little")
    need(length <= FRAME_MAX, "too_large")
    need(length == len(data) - 4, "malformed")
    return data[4:]


def records(data):
    out = []
    while data:
        need(len(data) >= 24, "malformed")
        length, step, stream = (int.from_bytes(data[a:b], "little") for a, b in ((0, 4), (4, 6), (6, 7)))
        need(1 <= length <= RECORD_MAX and stream in (1, 2) and data[7] == 0, "malformed")
        need(len(data) >= 24 + length, "malformed")
        out.append({"length": length, "step": step, "stream": ["stdout", "stderr"][stream - 1],
                    "seq": int.from_bytes(data[8:16], "little"), "at_ms": int.from_bytes(data[16:24], "little"),
                    "bytes": data[24:24 + length].hex()})
        data = data[24 + length:]
    return out


def extents(data):
    parts = {"log": data}
    for stream in ("stdout", "stderr"):
        parts[stream] = b"".join(bytes.fromhex(r["bytes"]) for r in records(data) if r["stream"] == stream)
    return {name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()} for name, part in parts.items()}


def token(text):
    need(text.startswith("stb_"), "not_a_token")
    need(re.fullmatch(r"[A-Za-z0-9_-]{0,4096}", text[4:]), "damaged")
    letters = text[4:] + "=" * (-len(text[4:]) % 4)
    data = base64.urlsafe_b64decode(letters) if len(text) % 4 != 1 else b""
    need(base64.urlsafe_b64encode(data).decode() == letters, "damaged")
    need(len(data) > 4 and hashlib.sha256(data[:-4]).digest()[:4] == data[-4:], "damaged")
    need(data[0] == 1, "version")
    return data, decode("token", data[1:-4])


def request(data, authority):
    """A request for enrolment: its proof is by the receipt key in it, about what stands beside it."""
    at = Reader(data, None)
    for _, part in TABLES["enrol_request"][:3]:
        at.read(part)
    key = at.take(32)
    value = decode("enrol_request", data, [{"public": key, "id": hashlib.sha256(key).digest()}])
    digest = hashlib.sha256(bytes.fromhex(value["request"])).hexdigest()
    meant = {"pin": authority, "request": digest, "name": value["name"]}
    need(value["proof"]["body"] == meant, "proof_elsewhere")
    return value


def read(kind, data, authority):
    """What the bytes of a kind are, as fields."""
    special = {"record": lambda: records(data)[0], "log": lambda: extents(data),
               "token_text": lambda: token(data.decode()), "enrol_request": lambda: request(data, authority)}
    return special.get(kind, lambda: decode(kind, unframe(data) if kind in FRAMED else data))()


def check(vector, authority):
    kind, data = vector["kind"], bytes.fromhex(vector["hex"])
    if kind == "certificate":
        start = next(data.index(begin) for begin in SPKI if begin in data)
        spki = data[start:start + 2 + data[start + 1]]
        agree(vector["pin"] == "sha256:" + hashlib.sha256(spki).hexdigest(), "pin")
        agree(vector["uri"].encode() in data, "uri")
        return
    if kind == "pae":
        agree(data == pae(vector["payload_type"], bytes.fromhex(vector["body"])), "pae")
        return
    fields = vector["fields"]
    if kind == "token":
        agree(token(vector["text"]) == (data, fields), "text")
        return
    found = read(kind, data, authority)
    agree(found == fields, f"fields: {found}")
    if kind not in ("record", "log"):
        agree(encode(kind, fields) == (unframe(data) if kind in FRAMED else data), "bytes")
    if "pae" in vector:
        inner = kind.removeprefix("signed<").removesuffix(">")
        body = encode(inner, fields["body"])
        agree(vector["payload_type"] == SIGNED[inner][0] and vector["body"] == body.hex(), "body")
        agree(bytes.fromhex(vector["pae"]) == pae(vector["payload_type"], body), "pae")


def refuse(vector, authority):
    try:
        read(vector["kind"], bytes.fromhex(vector["hex"]), authority)
        reason = "accepted"
    except Refused as refusal:
        reason = refusal.args[0]
    agree(reason == vector["refused"], reason)


def main():
    for key in KEYS.values():
        agree(public_of(key["seed"]) == key["public"], "the seed is of another key")
        agree(hashlib.sha256(key["public"]).digest() == key["id"], "the id is of another key")
    files = {path.name: json.loads(path.read_text()) for path in sorted(HERE.glob("*.json"))}
    authority = files["certificates.json"]["vectors"][0]["pin"]
    count = 0
    for name, file in files.items():
        for vector in file.get("vectors", []):
            try:
                (refuse if "refused" in vector else check)(vector, authority)
            except (AssertionError, Refused) as error:
                raise SystemExit(f"{name}: {vector['name']}: {error}") from None
            count += 1
    print(f"{count} vectors hold")


if __name__ == "__main__":
    main()
