package outgoing_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"orgcast/internal/outgoing"
)

func mustKeys(tb testing.TB, text string) outgoing.Keys {
	tb.Helper()
	k, err := outgoing.ParseKeys(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// TestSignatures: calls are signed as Standard Webhooks does it; the vectors come from its
// specification and from another language.
func TestSignatures(t *testing.T) {
	b, err := os.ReadFile("testdata/signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name, Keys, ID, Body, Signature string
		Timestamp                       int64
	}
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			keys, h, at := mustKeys(t, v.Keys), make(http.Header), time.Unix(v.Timestamp, 0)
			keys.Sign(h, v.ID, at, []byte(v.Body))
			if got := h.Get(outgoing.HeaderSignature); got != v.Signature {
				t.Errorf("signature: got %s, want %s", got, v.Signature)
			}
			if err := keys.Verify(h, []byte(v.Body), at.Add(time.Minute)); err != nil {
				t.Errorf("verify: %v", err)
			}
			for what, change := range map[string]func(h http.Header) (body string, now time.Time){
				"another body": func(http.Header) (string, time.Time) { return v.Body + " ", at },
				"another id":   func(h http.Header) (string, time.Time) { h.Set(outgoing.HeaderID, v.ID+"x"); return v.Body, at },
				"another time": func(h http.Header) (string, time.Time) { h.Set(outgoing.HeaderTimestamp, "1"); return v.Body, at },
				"no signature": func(h http.Header) (string, time.Time) { h.Del(outgoing.HeaderSignature); return v.Body, at },
				"no id":        func(h http.Header) (string, time.Time) { h.Del(outgoing.HeaderID); return v.Body, at },
				"too late":     func(http.Header) (string, time.Time) { return v.Body, at.Add(outgoing.Tolerance + time.Second) },
				"too early":    func(http.Header) (string, time.Time) { return v.Body, at.Add(-outgoing.Tolerance - time.Second) },
				"other version": func(h http.Header) (string, time.Time) {
					h.Set(outgoing.HeaderSignature, strings.ReplaceAll(v.Signature, "v1,", "v2,"))
					return v.Body, at
				},
			} {
				changed := h.Clone()
				body, now := change(changed)
				if err := keys.Verify(changed, []byte(body), now); !errors.Is(err, outgoing.ErrBadSignature) {
					t.Errorf("%s: got %v, want %v", what, err, outgoing.ErrBadSignature)
				}
			}
		})
	}
}

// TestKeysInExchange: while keys are exchanged, a receiver may know the old one or the new one.
func TestKeysInExchange(t *testing.T) {
	const older, newer = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	h, now := make(http.Header), time.Unix(1700000000, 0)
	mustKeys(t, newer+"\n"+older+"\n").Sign(h, "m1", now, []byte("{}"))
	for _, key := range []string{older, newer} {
		if err := mustKeys(t, key).Verify(h, []byte("{}"), now); err != nil {
			t.Errorf("a receiver that knows %s: %v", key, err)
		}
	}
	if err := mustKeys(t, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").Verify(h, []byte("{}"), now); err == nil {
		t.Error("a receiver with another key takes the call for signed")
	}
}

func TestParseKeysRefuses(t *testing.T) {
	for what, text := range map[string]string{
		"nothing": " \n", "no prefix": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "too short": "whsec_c2hvcnQ=",
		"not base64": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", "too long": "whsec_" + strings.Repeat("AAAA", 30),
		"one good and one bad": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw x",
	} {
		_, err := outgoing.ParseKeys(text)
		if err == nil {
			t.Errorf("%s: accepted", what)
		} else if strings.TrimSpace(text) != "" && strings.Contains(err.Error(), strings.TrimSpace(text)) {
			t.Errorf("%s: the error shows the key: %v", what, err)
		}
	}
}
