package session_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// start is a moment at which tests begin. The cookies of testdata are a minute old then.
var start = time.Unix(1767225660, 0)

// request returns a request with the given Cookie header.
func request(header string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/ws/events", http.NoBody)
	if header != "" {
		r.Header.Set("Cookie", header)
	}
	return r
}

// readVectors decodes a file of testdata into v.
func readVectors(tb testing.TB, name string, v any) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
}

func mustBase64(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
