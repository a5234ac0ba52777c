package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"orgcast/internal/bench"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"

	"github.com/coder/websocket"
)

func TestRunAgainstAFaithfulServer(t *testing.T) {
	t.Parallel()
	redisAddr := redistest.Start(t)
	tests := map[string]struct {
		server func(*stub)
		change func(*bench.Options)
		enough func(bench.Report) bool // beside what each run needs
		check  func(*testing.T, bench.Report)
	}{
		"at a rate": {},
		"in another database": {
			server: func(s *stub) { s.keys = s.keys.InDatabase(3) },
			change: func(o *bench.Options) { o.Redis = strings.TrimSuffix(o.Redis, "/0") + "/3" },
		},
		"one event in flight":   {change: func(o *bench.Options) { o.Rate = 0 }},
		"many events in flight": {change: func(o *bench.Options) { o.Rate, o.InFlight = 0, 50 }},
		"with churn": {
			change: func(o *bench.Options) { o.Churn = 200 },
			enough: func(rep bench.Report) bool { return rep.Handshakes > 0 },
			check: func(t *testing.T, rep bench.Report) {
				t.Helper()
				if rep.Handshakes == 0 {
					t.Error("handshakes: got none")
				}
			},
		},
		"with churn and flow control": {change: func(o *bench.Options) { o.Rate, o.InFlight, o.Churn = 0, 8, 200 }},
		"compressed": {
			server: func(s *stub) { s.compression = websocket.CompressionNoContextTakeover },
			change: func(o *bench.Options) { o.Compress, o.Payload = true, 1024 },
			check: func(t *testing.T, rep bench.Report) {
				t.Helper()
				if rep.Bytes >= rep.Deliveries*1024 {
					t.Errorf("bytes: got %d for %d deliveries of 1 KiB, want fewer", rep.Bytes, rep.Deliveries)
				}
			},
		},
		"large events": {change: func(o *bench.Options) { o.Payload, o.Rate = 100_000, 100 }},
		"with fields that the server added": {
			server: func(s *stub) {
				s.spoil = func(_ *stub, _ *stubConn, _ int, payload string) []string {
					return []string{`{"id":"1-1","group":"room.0",` + payload[1:]}
				}
			},
		},
		"with a noisy organization": {
			change: func(o *bench.Options) { o.Noisy, o.NoisyRate = true, 1000 },
			enough: func(rep bench.Report) bool { return rep.NoisyDeliveries > 0 && rep.NoisyDeliveries < rep.Deliveries },
			check: func(t *testing.T, rep bench.Report) {
				t.Helper()
				if rep.NoisyDeliveries == 0 || rep.NoisyDeliveries >= rep.Deliveries {
					t.Errorf("noisy deliveries: got %d of %d, want some of them", rep.NoisyDeliveries, rep.Deliveries)
				}
			},
		},
		"with noise that nobody hears": {
			// Each event of the others reaches a connection or more.
			change: func(o *bench.Options) { o.Noisy, o.NoisyRate, o.NoisyUnheard = true, 10_000, true },
			enough: func(rep bench.Report) bool { return rep.Published > rep.Deliveries },
			check: func(t *testing.T, rep bench.Report) {
				t.Helper()
				if rep.NoisyDeliveries != 0 || rep.NoisyLost != 0 {
					t.Errorf("noisy: got %d delivered and %d lost, want none", rep.NoisyDeliveries, rep.NoisyLost)
				}
				if rep.Published <= rep.Deliveries {
					t.Errorf("published: got %d for %d deliveries, want the noise among them", rep.Published, rep.Deliveries)
				}
			},
		},
		"with a stalled connection": {change: func(o *bench.Options) { o.Stalled = 1 }},
		"storm": {
			change: func(o *bench.Options) { o.Rate, o.Storm = 0, true },
			check: func(t *testing.T, rep bench.Report) {
				t.Helper()
				if rep.Storms == 0 || rep.Handshakes != int64(rep.Storms*rep.Conns) {
					t.Errorf("handshakes: got %d in %d storms of %d", rep.Handshakes, rep.Storms, rep.Conns)
				}
			},
		},
		"storm while events flow": {change: func(o *bench.Options) { o.Storm = true }},
		"idle":                    {change: func(o *bench.Options) { o.Idle = true }},
		"bare handshakes":         {change: func(o *bench.Options) { o.GroupsPerConn, o.Storm = 0, true }},
		"this process measured": {
			change: func(o *bench.Options) { o.Pid = os.Getpid() },
			enough: func(rep bench.Report) bool { return rep.ServerCPUSeconds > 0 },
			check: func(t *testing.T, rep bench.Report) {
				t.Helper()
				if rep.RSS == 0 || rep.ServerCPUSeconds == 0 {
					t.Errorf("got %d bytes, %v s, want both measured", rep.RSS, rep.ServerCPUSeconds)
				}
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStub(t, redisAddr, tt.server)
			opts := s.options()
			if tt.change != nil {
				tt.change(&opts)
			}
			rep := runLongEnough(t, bench.Run, opts, func(rep bench.Report) bool {
				return (rep.Deliveries > 0 || opts.Idle || opts.Storm) && (tt.enough == nil || tt.enough(rep))
			})
			if got := rep.ExitCode(); got != bench.ExitOK {
				t.Errorf("exit code: got %d, want %d; report: %+v", got, bench.ExitOK, rep)
			}
			if rep.Unexpected != 0 {
				t.Errorf("unexpected frames: got %d, want 0; notes: %q", rep.Unexpected, rep.Notes)
			}
			if rep.Deliveries == 0 && !opts.Idle && !opts.Storm {
				t.Error("deliveries: got none")
			}
			if tt.check != nil {
				tt.check(t, rep)
			}
		})
	}
}

// runLongEnough runs a load again, each time for longer, until it has shown enough: on a busy machine
// the usual part of a second can pass without anything. What else is wrong with a report stays wrong.
func runLongEnough(
	t *testing.T, run func(context.Context, bench.Options, io.Writer) (bench.Report, error), opts bench.Options, enough func(bench.Report) bool,
) bench.Report {
	t.Helper()
	for {
		rep, err := run(t.Context(), opts, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if enough(rep) || opts.Duration > testkit.Patience {
			return rep
		}
		opts.Duration *= 4
	}
}

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
		"no Redis":         {change: func(o *bench.Options) { o.Redis = "redis://127.0.0.1:1" }, want: "redis"},
		"foreign origin":   {change: func(o *bench.Options) { o.Origin = "http://elsewhere.test" }, want: "403 Forbidden"},
		"TLS":              {change: func(o *bench.Options) { o.URL = "wss://127.0.0.1/ws" }, want: "is not ws://"},
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

func TestInterruptedRunReportsWhatItMeasured(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	delivered := make(chan struct{})
	s := startStub(t, redistest.Start(t), func(s *stub) {
		s.spoil = func(_ *stub, _ *stubConn, n int, payload string) []string {
			if n == 10_000 { // some seconds after the beginning
				close(delivered)
			}
			return []string{payload}
		}
	})
	opts := s.options()
	opts.Warmup, opts.Duration = 0, time.Hour
	go func() {
		<-delivered
		interrupt()
	}()
	rep, err := bench.Run(ctx, opts, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !rep.Interrupted || rep.ExitCode() != bench.ExitOK || rep.Deliveries == 0 {
		t.Errorf("got %+v, want an interrupted, faultless report", rep)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*bench.Options){
		"at a rate":           func(o *bench.Options) { o.Rate = 500 },
		"many in flight":      func(o *bench.Options) { o.InFlight = 16 },
		"with churn":          func(o *bench.Options) { o.Rate, o.Churn = 500, 200 },
		"storm":               func(o *bench.Options) { o.Storm = true },
		"many groups of each": func(o *bench.Options) { o.GroupsPerOrg, o.GroupsPerConn = 8, 3 },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := bench.DefaultOptions()
			opts.Conns, opts.Orgs, opts.Warmup, opts.Duration = 30, 2, 20*time.Millisecond, 200*time.Millisecond
			change(&opts)
			rep := runLongEnough(t, bench.Limit, opts, func(rep bench.Report) bool { return rep.Deliveries > 0 || rep.Storms > 0 })
			if rep.ExitCode() != bench.ExitOK || rep.Unexpected != 0 {
				t.Errorf("got %+v, want no faults", rep)
			}
			if rep.Deliveries == 0 && rep.Storms == 0 {
				t.Error("got neither deliveries nor storms")
			}
			if rep.RSS == 0 {
				t.Error("memory of the limit's process: got none")
			}
		})
	}
}

func TestMainComparesAndWritesJSON(t *testing.T) {
	t.Parallel()
	s := startStub(t, redistest.Start(t), nil)
	var stdout, stderr bytes.Buffer
	code := bench.Main(t.Context(), []string{
		"compare", "--rounds", "2", "--json", "--duration", "1s", "--warmup", "0s", "--in-flight", "4",
	}, s.options(), &stdout, &stderr)
	if code != bench.ExitOK {
		t.Fatalf("exit code: got %d, want %d; stderr:\n%s", code, bench.ExitOK, &stderr)
	}
	var got bench.Comparison
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatalf("standard output is no JSON: %v\n%s", err, &stdout)
	}
	if len(got.Lefts) != 2 || len(got.Rights) != 2 || got.Right != "limit" || len(got.Figures) == 0 {
		t.Errorf("got %d and %d reports against %q, %d figures", len(got.Lefts), len(got.Rights), got.Right, len(got.Figures))
	}
	if !strings.Contains(stderr.String(), "medians of 2 interleaved rounds") {
		t.Errorf("standard error has no table:\n%s", &stderr)
	}
}

func TestMainAgainstFlags(t *testing.T) {
	t.Parallel()
	s := startStub(t, redistest.Start(t), nil)
	var stdout, stderr bytes.Buffer
	code := bench.Main(t.Context(), []string{
		"compare", "--rounds", "1", "--duration", "1s", "--against", "--payload 1000 --rate 100",
	}, s.options(), &stdout, &stderr)
	if code != bench.ExitOK || !strings.Contains(stdout.String(), "--payload 1000 --rate 100") {
		t.Errorf("got %d, stdout:\n%s\nstderr:\n%s", code, &stdout, &stderr)
	}
}

func TestMainRefusesWrongUse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want string
	}{
		"unknown command":  {args: []string{"measure"}, want: `unknown command "measure"`},
		"unknown flag":     {args: []string{"--speed", "3"}, want: "-speed"},
		"argument":         {args: []string{"--idle", "yes"}, want: `unexpected argument "yes"`},
		"wrong opponent":   {args: []string{"compare", "--against", "nginx"}, want: "neither limit nor flags"},
		"no rounds":        {args: []string{"compare", "--rounds", "0"}, want: "rounds"},
		"nothing to sign":  {args: []string{}, want: "session key"},
		"idle and a storm": {args: []string{"limit", "--idle", "--storm"}, want: "exclude"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := bench.Main(t.Context(), tt.args, bench.DefaultOptions(), &stdout, &stderr); code != bench.ExitFailed {
				t.Errorf("exit code: got %d, want %d", code, bench.ExitFailed)
			}
			if !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("stderr: got %q, want %q in it", &stderr, tt.want)
			}
		})
	}
}

func TestHelpIsDocumentation(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := bench.Main(t.Context(), []string{"--help"}, bench.DefaultOptions(), &stdout, &stderr); code != bench.ExitOK {
		t.Errorf("exit code: got %d, want %d", code, bench.ExitOK)
	}
	for _, want := range []string{"Examples:", "Exit codes:", "-in-flight", "bench compare"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("help does not mention %q", want)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("stderr: got %q, want nothing", &stderr)
	}
}
