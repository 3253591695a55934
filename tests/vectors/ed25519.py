"""Ed25519 (RFC 8032, section 5.1), as much as verifying needs; slow, and not for secrets."""
import hashlib

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point(data):
    """The point that 32 bytes are, in extended coordinates; none when they are not one."""
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def add(left, right):
    a, b = (left[1] - left[0]) * (right[1] - right[0]), (left[1] + left[0]) * (right[1] + right[0])
    c, d = 2 * left[3] * right[3] * D, 2 * left[2] * right[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, base):
    out = (0, 1, 1, 0)
    while number:
        out, base, number = add(out, base) if number & 1 else out, add(base, base), number >> 1
    return out


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def public_of(seed):
    """The public key of a seed."""
    number = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    x, y, z, _ = times(number & (1 << 254) - 8 | 1 << 254, BASE)
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


def verify(public, message, signature):
    """Whether the key has signed the message."""
    key, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = times(s, BASE), add(r, times(k, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 == (left[1] * right[2] - right[1] * left[2]) % P
