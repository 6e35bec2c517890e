<?php
// Verifies a webhook of payrelay. Nothing but PHP itself, 8 or newer.

// $secret: whsec_…; $headers: by lower-case name, as they came; $body: the bytes that came (file_get_contents('php://input')), before JSON is parsed.
function is_genuine(string $secret, array $headers, string $body, ?int $now = null, int $tolerance_s = 300): bool
{
    [$id, $timestamp, $signatures] = array_map(fn ($name) => $headers[$name] ?? '', ['webhook-id', 'webhook-timestamp', 'webhook-signature']);
    if ($id === '' || !preg_match('/^[0-9]{1,18}$/D', $timestamp)) {
        return false;
    }
    if (abs(($now ?? time()) - (int) $timestamp) > $tolerance_s) {
        return false; // a replay, or one of the clocks is wrong
    }
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret), true);
    if ($key === false || strlen($key) < 24) {
        return false; // no secret of ours: with an empty one anybody could sign
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    $matches = false;
    // There are several while the secret is rotated; one has to match.
    foreach (explode(' ', $signatures) as $one) {
        $matches = hash_equals($expected, $one) || $matches;
    }
    return $matches;
}

if (PHP_SAPI === 'cli' && realpath($argv[0]) === __FILE__) {
    [, $secret, $id, $timestamp, $signature, $now] = $argv;
    $headers = ['webhook-id' => $id, 'webhook-timestamp' => $timestamp, 'webhook-signature' => $signature];
    exit(is_genuine($secret, $headers, file_get_contents('php://stdin'), (int) $now) ? 0 : 1);
}
