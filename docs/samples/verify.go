// Verifies a webhook of payrelay. Nothing but the standard library.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// IsGenuine takes the secret (whsec_…), the headers as they came, and the bytes of the body that came, before JSON is parsed.
func IsGenuine(secret string, headers http.Header, body []byte, now time.Time, tolerance time.Duration) bool {
	id, timestamp := headers.Get("webhook-id"), headers.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil {
		return false
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return false // a replay, or one of the clocks is wrong
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) < 24 {
		return false // no secret of ours: with an empty one anybody could sign
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	matches := false
	// There are several while the secret is rotated; one has to match.
	for _, one := range strings.Split(headers.Get("webhook-signature"), " ") {
		matches = hmac.Equal(expected, []byte(one)) || matches
	}
	return matches
}

func main() {
	body, _ := io.ReadAll(os.Stdin)
	headers := http.Header{}
	headers.Set("webhook-id", os.Args[2])
	headers.Set("webhook-timestamp", os.Args[3])
	headers.Set("webhook-signature", os.Args[4])
	now, _ := strconv.ParseInt(os.Args[5], 10, 64)
	if !IsGenuine(os.Args[1], headers, body, time.Unix(now, 0), 300*time.Second) {
		os.Exit(1)
	}
}
