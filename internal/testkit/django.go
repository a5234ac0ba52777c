package testkit

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// DjangoSecret is a SECRET_KEY.
const DjangoSecret = "test-only-insecure-secret-key-of-a-django-site-0123456789"

// DjangoSession returns the JSON of a session that Django's login made. org may be empty, and end zero.
func DjangoSession(user, org string, end time.Time) string {
	fields := map[string]any{
		"_auth_user_id": user, "_auth_user_backend": "django.contrib.auth.backends.ModelBackend", "_auth_user_hash": strings.Repeat("0", 64),
	}
	if org != "" {
		fields["active_organization_id"] = org
	}
	if !end.IsZero() {
		fields["_session_expiry"] = end.UTC().Format(time.RFC3339Nano)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err) // every value in it has a JSON form
	}
	return string(text)
}

// DjangoKey returns a new key of a session, as Django makes them.
func DjangoKey() string {
	key := strings.ToLower(rand.Text() + rand.Text())
	return key[:32]
}

// SignDjango signs and compresses a session with [DjangoSecret], as the engine signed_cookies of Django does.
func SignDjango(payload string, signed time.Time) (cookie string) {
	var compressed bytes.Buffer
	z := zlib.NewWriter(&compressed)
	_, _ = z.Write([]byte(payload)) // to memory
	_ = z.Close()
	text := "." + base64.RawURLEncoding.EncodeToString(compressed.Bytes()) + ":" + base62(signed.Unix())
	key := sha256.Sum256([]byte("django.contrib.sessions.backends.signed_cookies" + "signer" + DjangoSecret))
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(text))
	return text + ":" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// base62 returns the digits of a number above 0.
func base62(n int64) (text string) {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for ; n > 0; n /= 62 {
		text = digits[n%62:n%62+1] + text
	}
	return text
}
