// Verifies a webhook of payrelay. Nothing but the JDK, 11 or newer.

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Verify {
    /** secret: whsec_…; headers: by lower-case name, as they came; body: the bytes that came, before JSON is parsed. */
    static boolean isGenuine(String secret, Map<String, String> headers, byte[] body, long nowS, long toleranceS) throws Exception {
        String id = headers.getOrDefault("webhook-id", "");
        String timestamp = headers.getOrDefault("webhook-timestamp", "");
        String signatures = headers.getOrDefault("webhook-signature", "");
        if (id.isEmpty() || !timestamp.matches("[0-9]{1,18}")) return false;
        if (Math.abs(nowS - Long.parseLong(timestamp)) > toleranceS) return false; // a replay, or one of the clocks is wrong
        byte[] key = Base64.getDecoder().decode(secret.replaceFirst("^whsec_", ""));
        if (key.length < 24) return false; // no secret of ours: with an empty one anybody could sign
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        byte[] expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(StandardCharsets.UTF_8);
        boolean matches = false;
        // There are several while the secret is rotated; one has to match.
        for (String one : signatures.split(" ")) matches |= MessageDigest.isEqual(expected, one.getBytes(StandardCharsets.UTF_8));
        return matches;
    }

    public static void main(String[] args) throws Exception {
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        System.in.transferTo(body);
        Map<String, String> headers = Map.of("webhook-id", args[1], "webhook-timestamp", args[2], "webhook-signature", args[3]);
        System.exit(isGenuine(args[0], headers, body.toByteArray(), Long.parseLong(args[4]), 300) ? 0 : 1);
    }
}
