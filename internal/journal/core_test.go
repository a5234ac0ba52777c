package journal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/event"
	"orgcast/internal/journal"
	"orgcast/internal/testkit"
)

func newLogger(w *journal.Writer) *zap.Logger {
	return journal.NewLogger(w, zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.InfoLevel)
}

// logged runs fn with a logger and returns the entries that it wrote, and how many were suppressed.
func logged(t *testing.T, fn func(t *testing.T, log *zap.Logger)) (entries []map[string]any, sampled uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		out := new(scripted)
		w := journal.NewWriter(out, 16<<20)
		fn(t, newLogger(w))
		finish(t, w)
		for line := range strings.Lines(out.String()) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			entries = append(entries, entry)
		}
		_, _, sampled = w.Dropped()
	})
	return entries, sampled
}

// count returns how many entries have the message and fields given.
func count(entries []map[string]any, message string, fields ...string) (n int) {
	for _, e := range entries {
		fits := e["msg"] == message
		for i := 0; i < len(fields); i += 2 {
			fits = fits && fmt.Sprint(e[fields[i]]) == fields[i+1]
		}
		if fits {
			n++
		}
	}
	return n
}

// TestOneOrganizationCannotFillTheLog: lines that an organization's members cause are sampled for
// each reason. Lines of other organizations, and lines for other reasons, pass.
func TestOneOrganizationCannotFillTheLog(t *testing.T) {
	const flood = 10 * journal.Burst
	entries, sampled := logged(t, func(t *testing.T, log *zap.Logger) {
		t.Helper()
		acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
		group, err := event.NewGroup(acme, "all")
		if err != nil {
			t.Fatal(err)
		}
		ofAcme := log.With(zap.Stringer("organization_id", acme))
		for range flood {
			log.Info("connection ended", zap.Stringer("organization_id", acme), zap.Int("code", 1000))
			log.Warn("event dropped", zap.Stringer("group", group), zap.String("reason", "not_utf8"), zap.Error(errors.New("text")))
			ofAcme.Warn("task refused", zap.String("code", "crashed"))
		}
		log.Info("connection ended", zap.Stringer("organization_id", globex), zap.Int("code", 1000))
		log.Info("connection ended", zap.Stringer("organization_id", acme), zap.Int("code", 4401))
		log.Warn("event dropped", zap.Stringer("group", group), zap.String("reason", "too_large"))
		ofAcme.Warn("task refused", zap.String("code", "other"))
		log.Named("other").Info("connection ended", zap.Stringer("organization_id", acme), zap.Int("code", 1000))
		log.Debug("connection ended", zap.Stringer("organization_id", globex))
	})
	for _, flooded := range [][]string{
		{"connection ended", "organization_id", "acme", "code", "1000", "logger", "<nil>"}, {"event dropped", "reason", "not_utf8"}, {"task refused", "code", "crashed"},
	} {
		if got := count(entries, flooded[0], flooded[1:]...); got != journal.Burst {
			t.Errorf("%q: got %d lines, want %d", flooded, got, journal.Burst)
		}
	}
	if want := uint64(3 * (flood - journal.Burst)); sampled != want {
		t.Errorf("counted %d lines that were not logged, want %d", sampled, want)
	}
	for _, passes := range [][]string{
		{"connection ended", "organization_id", "globex"},
		{"connection ended", "code", "4401"},
		{"event dropped", "reason", "too_large"},
		{"task refused", "code", "other"},
		{"connection ended", "logger", "other"},
	} {
		if got := count(entries, passes[0], passes[1:]...); got != 1 {
			t.Errorf("%q: got %d lines, want 1", passes, got)
		}
	}
}

// TestSuppressedLinesAreTold: the next line that passes reports how many did not, unless it counts
// them itself.
func TestSuppressedLinesAreTold(t *testing.T) {
	entries, _ := logged(t, func(_ *testing.T, log *zap.Logger) {
		for range journal.Burst + 7 {
			log.Warn("flood")
		}
		time.Sleep(time.Second)
		for range journal.PerSecond + 3 {
			log.Warn("flood")
		}
		time.Sleep(time.Second)
		log.Warn("flood", zap.Int("suppressed", 1))
	})
	if got, want := len(entries), journal.Burst+journal.PerSecond+1; got != want {
		t.Fatalf("got %d lines, want %d", got, want)
	}
	for i, want := range map[int]string{0: "<nil>", journal.Burst: "7", journal.Burst + 1: "<nil>", journal.Burst + journal.PerSecond: "1"} {
		if got := fmt.Sprint(entries[i]["suppressed"]); got != want {
			t.Errorf("line %d: got suppressed %s, want %s", i, got, want)
		}
	}
}

// TestManySubjectsAreBounded: a flood of new subjects gets neither memory for each nor lines. After
// a while, everything works as before.
func TestManySubjectsAreBounded(t *testing.T) {
	entries, sampled := logged(t, func(t *testing.T, log *zap.Logger) {
		t.Helper()
		for i := range 2 * journal.MaxBuckets {
			log.Info("made up", zap.Stringer("organization_id", testkit.Org(t, fmt.Sprintf("o%d", i))))
		}
		time.Sleep(time.Hour)
		log.Info("later", zap.Stringer("organization_id", testkit.Org(t, "late")))
		for range journal.Burst { // as many as a bucket of its own allows
			log.Info("later", zap.Stringer("organization_id", testkit.Org(t, "later")))
		}
	})
	if got, want := count(entries, "made up"), journal.MaxBuckets+journal.Burst; got != want {
		t.Errorf("got %d lines, want %d", got, want)
	}
	if want := uint64(journal.MaxBuckets - journal.Burst); sampled != want {
		t.Errorf("counted %d, want %d", sampled, want)
	}
	if got, want := count(entries, "later"), journal.Burst+1; got != want {
		t.Errorf("later: got %d lines, want %d", got, want)
	}
}

// TestFreeTextIsCountedByItsFirstWords: each line of a library's log may name a different stranger.
func TestFreeTextIsCountedByItsFirstWords(t *testing.T) {
	entries, _ := logged(t, func(_ *testing.T, log *zap.Logger) {
		http := log.Named("http").WithOptions(journal.FreeText())
		for i := range 2 * journal.Burst {
			http.Warn(fmt.Sprintf("http: TLS handshake error from 10.0.0.1:%d: EOF", i))
		}
		http.With(zap.String("some", "field")).Warn("http: panic serving 10.0.0.1:5: oops")
	})
	if got, want := len(entries), journal.Burst+1; got != want {
		t.Errorf("got %d lines, want %d", got, want)
	}
	for message, want := range map[string]string{
		"http: TLS handshake error from 10.0.0.1:5: EOF": "http: TLS handshake ",
		"http: panic serving 10.0.0.1:5: oops":           "http: panic serving ",
		"http: Accept error: accept tcp [::]:80":         "http: Accept error: ",
		"failed: 1":                                      "failed: ",
		"[::1]:6379 is away":                             "",
		"closed":                                         "closed",
		"two words":                                      "two words",
		"":                                               "",
	} {
		if got := journal.FirstWords(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}

// TestFreeTextOfAnotherCore: the option does not change loggers of tests.
func TestFreeTextOfAnotherCore(t *testing.T) {
	if zap.NewNop().WithOptions(journal.FreeText()).Core().Enabled(zapcore.ErrorLevel) {
		t.Error("a logger that logs nothing logs")
	}
}

// brokenEncoder encodes nothing.
type brokenEncoder struct{ zapcore.Encoder }

func (brokenEncoder) EncodeEntry(zapcore.Entry, []zapcore.Field) (*buffer.Buffer, error) {
	return nil, errors.New("broken")
}

// TestWhatCannotBeEncodedIsTold: zap reports it in the log itself, and not directly on standard
// error.
func TestWhatCannotBeEncodedIsTold(t *testing.T) {
	out := new(scripted)
	w := journal.NewWriter(out, 0)
	encoder := zap.NewProductionEncoderConfig()
	journal.NewLogger(w, brokenEncoder{zapcore.NewJSONEncoder(encoder)}, zapcore.InfoLevel).Info("line")
	finish(t, w)
	if got := out.String(); !strings.Contains(got, "encode log entry") {
		t.Errorf("got %q", got)
	}
}
