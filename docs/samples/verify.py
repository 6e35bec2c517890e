"""Verifies a webhook of payrelay. Nothing but the standard library."""

import base64
import hashlib
import hmac
import sys
import time


def is_genuine(secret, headers, body, now=None, tolerance_s=300):
    """secret: whsec_…; headers: by lower-case name, as they came; body: the bytes that came, before JSON is parsed."""
    id, timestamp, signatures = (headers.get(name, "") for name in ("webhook-id", "webhook-timestamp", "webhook-signature"))
    if not id or not (timestamp.isascii() and timestamp.isdigit()):
        return False
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance_s:
        return False  # a replay, or one of the clocks is wrong
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"))
    except ValueError:
        return False  # no secret at all
    if len(key) < 24:
        return False  # no secret of ours: with an empty one anybody could sign
    signed = id.encode() + b"." + timestamp.encode() + b"." + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # There are several while the secret is rotated; one has to match.
    matches = [hmac.compare_digest(expected.encode(), one.encode()) for one in signatures.split(" ")]
    return any(matches)


if __name__ == "__main__":
    _, secret, id, timestamp, signature, now = sys.argv
    headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    sys.exit(0 if is_genuine(secret, headers, sys.stdin.buffer.read(), int(now)) else 1)
