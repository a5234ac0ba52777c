//go:build !nodemo

package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"orgcast/internal/testkit"
)

// TestDemoSaysThatItStarts: it prints a line before it does anything that may take long, here with
// a Redis that never answers.
func TestDemoSaysThatItStarts(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	out := new(testkit.SyncBuffer)
	spawn(t, nil, out, out, "demo", "--listen", "127.0.0.1:0", "--redis", "redis://"+silent.Addr().String())
	testkit.Eventually(t, "a line that it starts", func() bool { return strings.Contains(out.String(), "Orgcast demo: starting") })
	if got := out.String(); strings.Contains(got, "sign in") || strings.Contains(got, "WARNING") {
		t.Errorf("got %q, want no invitation before it can be followed", got)
	}
}

// TestDemoWarnsOfStrangers: on an address that others can reach, the demo says that they can sign in
// as anyone.
func TestDemoWarnsOfStrangers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	out := new(testkit.SyncBuffer)
	spawn(t, nil, out, out, "demo", "--listen", "0.0.0.0:0", "--redis", "redis://"+silent.Addr().String())
	testkit.Eventually(t, "a warning", func() bool {
		return strings.Contains(out.String(), "WARNING") && strings.Contains(out.String(), "can sign in as anyone")
	})
	for address, want := range map[string]bool{
		"127.0.0.1": false, "127.8.0.1": false, "::1": false,
		"0.0.0.0": true, "::": true, "192.0.2.7": true, "2001:db8::1": true,
	} {
		got := exposure(&net.TCPAddr{IP: net.ParseIP(address), Port: 8080})
		if warned := got != ""; warned != want {
			t.Errorf("%s: got %q, want a warning: %v", address, got, want)
		}
		if want && !strings.Contains(got, "--listen 127.0.0.1:8080") {
			t.Errorf("%s: got %q, want what to use instead", address, got)
		}
	}
}

// TestDemoAnswersToItsOwnName: a foreign name that was made to lead to the demo gets nothing.
func TestDemoAnswersToItsOwnName(t *testing.T) {
	h := onlyHosts(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), []string{"127.0.0.1:8080", "localhost:8080"})
	for host, want := range map[string]int{
		"127.0.0.1:8080": 204, "localhost:8080": 204, "localhost:9000": 204, "127.0.0.1": 204,
		"evil.test:8080": 421, "localhost.evil.test:8080": 421, "": 421,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: got %d, want %d", host, w.Code, want)
		}
	}
}

// TestDemoTellsOfAnOutage: an outage that the page starts prints one line when Redis is unreachable
// and one when it is back, and no warning for each connection.
func TestDemoTellsOfAnOutage(t *testing.T) {
	t.Parallel()
	out, log := new(testkit.SyncBuffer), new(testkit.SyncBuffer)
	spawn(t, nil, out, log, "demo", "--listen", "127.0.0.1:0")
	testkit.Eventually(t, "an invitation", func() bool { return strings.Contains(out.String(), "sign in") })
	_, rest, _ := strings.Cut(out.String(), "open      ")
	page, _, _ := strings.Cut(rest, "\n")
	post := func(path, form, text string, cookies []*http.Cookie) []*http.Cookie {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, page+path, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", form)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode >= 300 {
			t.Fatalf("%s: got %s", path, answer.Status)
		}
		return answer.Cookies()
	}
	cookies := post("demo/sign-in", "application/x-www-form-urlencoded", "user=ada&seat=left", nil)
	post("demo/outage", "application/json", `{"seats":["left"],"seconds":1}`, cookies)
	told := regexp.MustCompile(`Redis is unreachable for 1 s, .*\n.* Redis is back after .* The \d+ events that waited are published, .* [1-9]\d* warnings about lost connections were left out\.\n$`)
	testkit.Eventually(t, "two lines about the outage", func() bool { return told.MatchString(out.String()) })
	for _, message := range []string{"cannot read tasks", "subscription connection lost", "control connection lost"} {
		if strings.Contains(log.String(), message) {
			t.Errorf("got the log\n%s\nwant no line %q", log.String(), message)
		}
	}
}
