package bench_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"orgcast/internal/bench"
	"orgcast/internal/testkit/redistest"
)

// TestRunDetectsFaults has the server do wrong once in a while, each time in another way.
func TestRunDetectsFaults(t *testing.T) {
	t.Parallel()
	redisAddr := redistest.Start(t)
	const seldom = 97
	every := func(fn func(s *stub, to *stubConn, payload string) []string) func(*stub) {
		return func(s *stub) {
			s.spoil = func(s *stub, to *stubConn, n int, payload string) []string {
				if n%seldom != 0 {
					return []string{payload}
				}
				return fn(s, to, payload)
			}
		}
	}
	tests := map[string]struct {
		server func(*stub)
		fault  func(bench.Report) int64
		code   int
	}{
		"event of another organization": {
			server: every(func(_ *stub, to *stubConn, payload string) []string {
				other := "bench-0"
				if to.identity.Organization.String() == other {
					other = "bench-1"
				}
				return []string{payload, strings.Replace(payload, to.identity.Organization.String(), other, 1)}
			}),
			fault: func(rep bench.Report) int64 { return rep.Foreign }, code: bench.ExitForeign,
		},
		"event of another kind and organization": {
			server: every(func(_ *stub, _ *stubConn, payload string) []string {
				return []string{payload, `{"type":"chat","organization_id":7,"text":"secret"}`}
			}),
			fault: func(rep bench.Report) int64 { return rep.Foreign }, code: bench.ExitForeign,
		},
		"event of a group that was not joined": {
			server: every(func(_ *stub, _ *stubConn, payload string) []string {
				return []string{payload, strings.Replace(payload, `"room":`, `"room":1`, 1)}
			}),
			fault: func(rep bench.Report) int64 { return rep.Foreign }, code: bench.ExitForeign,
		},
		"event under another group": {
			server: func(s *stub) {
				s.wrap = func(n int, payload, group string) []byte {
					if n%seldom == 0 {
						group += "x"
					}
					return inEnvelope([]byte(payload), group)
				}
			},
			fault: func(rep bench.Report) int64 { return rep.Foreign }, code: bench.ExitForeign,
		},
		"event outside of an envelope": {
			server: func(s *stub) {
				s.wrap = func(n int, payload, group string) []byte {
					if n%seldom == 0 {
						return []byte(payload)
					}
					return inEnvelope([]byte(payload), group)
				}
			},
			fault: func(rep bench.Report) int64 { return rep.Unexpected }, code: bench.ExitUnfaithful,
		},
		"lost": {
			server: every(func(*stub, *stubConn, string) []string { return nil }),
			fault:  func(rep bench.Report) int64 { return rep.Lost }, code: bench.ExitUnfaithful,
		},
		"the end lost": {
			server: func(s *stub) {
				// That may be before the measured part begins, whose deliveries are then none.
				s.spoil = func(_ *stub, _ *stubConn, n int, payload string) []string {
					if n > 100 {
						return nil
					}
					return []string{payload}
				}
			},
			fault: func(rep bench.Report) int64 { return rep.Lost }, code: bench.ExitUnfaithful,
		},
		"duplicated": {
			server: every(func(_ *stub, _ *stubConn, payload string) []string { return []string{payload, payload} }),
			fault:  func(rep bench.Report) int64 { return rep.Duplicated }, code: bench.ExitUnfaithful,
		},
		"reordered": {
			server: func(s *stub) {
				s.spoil = func(_ *stub, to *stubConn, n int, payload string) []string {
					held := to.held
					if held == "" && n%seldom == 0 {
						to.held = payload
						return nil
					}
					to.held = ""
					if held == "" {
						return []string{payload}
					}
					return []string{payload, held}
				}
			},
			fault: func(rep bench.Report) int64 { return rep.Reordered }, code: bench.ExitUnfaithful,
		},
		"connections ended": {
			server: func(s *stub) { s.kick = func(n int) bool { return n%seldom == 0 } },
			fault:  func(rep bench.Report) int64 { return rep.Dropped }, code: bench.ExitUnfaithful,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStub(t, redisAddr, tt.server)
			opts := s.options()
			if name == "reordered" {
				opts.GroupsPerOrg, opts.GroupsPerConn = 1, 1 // what is held belongs to the next event's group
			}
			rep := runLongEnough(t, bench.Run, opts, func(rep bench.Report) bool { return tt.fault(rep) > 0 })
			if tt.fault(rep) == 0 {
				t.Errorf("got no fault; report: %+v", rep)
			}
			if got := rep.ExitCode(); got != tt.code {
				t.Errorf("exit code: got %d, want %d; report: %+v", got, tt.code, rep)
			}
			if len(rep.Notes) == 0 {
				t.Error("notes: got none")
			}
		})
	}
}

// TestFlowControlSurvivesLoss has the server swallow everything for a while; the load must go on.
func TestFlowControlSurvivesLoss(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	s := startStub(t, redistest.Start(t), func(s *stub) {
		s.spoil = func(_ *stub, _ *stubConn, n int, payload string) []string {
			switch n {
			case 20:
				return nil
			case 200:
				interrupt()
			}
			return []string{payload}
		}
	})
	opts := s.options()
	opts.Rate, opts.InFlight, opts.Warmup, opts.Duration = 0, 1, 0, time.Hour
	rep, err := bench.Run(ctx, opts, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Lost != 1 || rep.Deliveries < 50 {
		t.Errorf("got %d lost of %d, want 1 and a load that goes on", rep.Lost, rep.Deliveries)
	}
}

func TestRunFailsWithoutServer(t *testing.T) {
	t.Parallel()
	s := startStub(t, redistest.Start(t), nil)
	tests := map[string]struct {
		change func(*bench.Options)
		want   string
	}{
		"nobody listens":   {change: func(o *bench.Options) { o.URL = "ws://127.0.0.1:1/ws" }, want: "connection refused"},
		"no Redis":         {change: func(o *bench.Options) { o.Redis.URL = "redis://127.0.0.1:1" }, want: "redis"},
		"foreign origin":   {change: func(o *bench.Options) { o.Origin = "http://elsewhere.test" }, want: "403 Forbidden"},
		"HTTP":             {change: func(o *bench.Options) { o.URL = "https://127.0.0.1/ws" }, want: "must be ws://"},
		"no key":           {change: func(o *bench.Options) { o.Sessions = nil }, want: "session key"},
		"two mistakes":     {change: func(o *bench.Options) { o.Conns, o.Payload = 0, -1 }, want: "payload"},
		"too many sockets": {change: func(o *bench.Options) { o.Conns = 1 << 30 }, want: "open files"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := s.options()
			tt.change(&opts)
			_, err := bench.Run(t.Context(), opts, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
