// Verifies a webhook of payrelay. Nothing but Node.js itself.

import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// secret: whsec_…; headers: by lower-case name, as they came (request.headers); body: the Buffer that came, before JSON is parsed.
export function isGenuine(secret, headers, body, nowS = Date.now() / 1000, toleranceS = 300) {
  const [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) => headers[name] ?? "");
  if (!id || !/^[0-9]+$/.test(timestamp)) return false;
  if (Math.abs(nowS - Number(timestamp)) > toleranceS) return false; // a replay, or one of the clocks is wrong
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  if (key.length < 24) return false; // no secret of ours: with an empty one anybody could sign
  const digest = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${digest}`);
  // There are several while the secret is rotated; one has to match.
  const matches = signatures.split(" ").map((one) => Buffer.from(one)).map((one) => one.length === expected.length && timingSafeEqual(one, expected));
  return matches.includes(true);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [secret, id, timestamp, signature, now] = process.argv.slice(2);
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature };
  process.exit(isGenuine(secret, headers, readFileSync(0), Number(now)) ? 0 : 1);
}
