// Verifies a webhook of payrelay by public keys (`v1a`, Ed25519): whoever checks needs no secret. Nothing but Node.js itself.

import { createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// keys: whpk_…, one or several; headers: by lower-case name, as they came (request.headers); body: the Buffer that came, before JSON is parsed.
export function isGenuine(keys, headers, body, nowS = Date.now() / 1000, toleranceS = 300) {
  const [id, timestamp, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) => headers[name] ?? "");
  if (!id || !/^[0-9]+$/.test(timestamp)) return false;
  if (Math.abs(nowS - Number(timestamp)) > toleranceS) return false; // a replay, or one of the clocks is wrong
  const message = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  const given = signatures.split(" ").filter((one) => one.startsWith("v1a,")).map((one) => Buffer.from(one.slice(4), "base64"));
  return keys.some((text) => {
    const bytes = Buffer.from(text.replace(/^whpk_/, ""), "base64");
    if (bytes.length !== 32) return false; // no key
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: bytes.toString("base64url") }, format: "jwk" });
    // There are several while a key is replaced; one has to match.
    return given.some((signature) => verify(null, message, key, signature));
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [keys, id, timestamp, signature, now] = process.argv.slice(2);
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature };
  process.exit(isGenuine(keys.split(","), headers, readFileSync(0), Number(now)) ? 0 : 1);
}
