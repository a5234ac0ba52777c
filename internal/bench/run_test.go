package bench_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/bench"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestRunAgainstAFaithfulServer(t *testing.T) {
	t.Parallel()
	redisAddr := redistest.Start(t)
	tests := map[string]struct {
		server func(*stub)
		change func(*bench.Options)
		enough func(bench.Report) bool // in addition to what each run needs
		check  func(*testing.T, bench.Report)
	}{
		"at a rate": {},
		"in another database": {
			server: func(s *stub) { s.keys = s.keys.InDatabase(3) },
			change: func(o *bench.Options) { o.Redis.URL = o.Redis.URL + "/3" },
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
		"server-sent events":                 {change: func(o *bench.Options) { o.SSE = true }},
		"server-sent events, one in flight":  {change: func(o *bench.Options) { o.SSE, o.Rate = true, 0 }},
		"server-sent events, storm":          {change: func(o *bench.Options) { o.SSE, o.Rate, o.Storm = true, 0, true }},
		"server-sent events, idle":           {change: func(o *bench.Options) { o.SSE, o.Idle = true, true }},
		"server-sent events, bare handshake": {change: func(o *bench.Options) { o.SSE, o.GroupsPerConn, o.Storm = true, 0, true }},
		"large events":                       {change: func(o *bench.Options) { o.Payload, o.Rate = 100_000, 100 }},
		"over TLS": {
			server: func(s *stub) { s.secure = true },
			change: func(o *bench.Options) { o.Insecure, o.Rate, o.InFlight = true, 0, 50 },
		},
		"over TLS, large events": {
			server: func(s *stub) { s.secure = true },
			change: func(o *bench.Options) { o.Insecure, o.Payload, o.Rate = true, 100_000, 100 },
		},
		"over TLS, sessions resumed": {
			server: func(s *stub) { s.secure = true },
			change: func(o *bench.Options) { o.Insecure, o.Resume, o.Rate, o.Storm = true, true, 0, true },
		},
		"over TLS, server-sent events, with churn": {
			server: func(s *stub) { s.secure = true },
			change: func(o *bench.Options) { o.Insecure, o.SSE, o.Churn = true, true, 200 },
		},
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
			change: func(o *bench.Options) { o.Pids = []int{os.Getpid()} },
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
// the usual part of a second can pass without anything. It returns a report of faults at once: a longer
// run would only show more of them.
func runLongEnough(
	t *testing.T, run func(context.Context, bench.Options, io.Writer) (bench.Report, error), opts bench.Options, enough func(bench.Report) bool,
) bench.Report {
	t.Helper()
	for {
		rep, err := run(t.Context(), opts, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if enough(rep) || rep.ExitCode() != bench.ExitOK || opts.Duration > testkit.Patience {
			return rep
		}
		opts.Duration *= 4
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

// TestSubscriber: the yardstick delivers all that it gets from Redis.
func TestSubscriber(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	tests := map[string]func(*bench.Options){
		"at a rate":           func(o *bench.Options) { o.Rate = 500 },
		"many in flight":      func(o *bench.Options) { o.InFlight = 16 },
		"with churn, TLS":     func(o *bench.Options) { o.URL, o.Rate, o.Churn = "wss://127.0.0.1/", 500, 200 },
		"many groups of each": func(o *bench.Options) { o.GroupsPerOrg, o.GroupsPerConn = 8, 3 },
		"in another database": func(o *bench.Options) { o.Redis.URL += "/2" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := bench.DefaultOptions()
			opts.Conns, opts.Orgs, opts.Warmup, opts.Duration = 30, 2, 20*time.Millisecond, 200*time.Millisecond
			opts.Redis.URL, opts.Prefix = "redis://"+addr, "subscriber-"+strings.NewReplacer(" ", "-", ",", "").Replace(name)
			change(&opts)
			rep := runLongEnough(t, bench.Subscriber, opts, func(rep bench.Report) bool { return rep.Deliveries > 0 })
			if rep.ExitCode() != bench.ExitOK || rep.Unexpected != 0 || rep.Deliveries == 0 || rep.RSS == 0 {
				t.Errorf("got %+v, want deliveries without faults", rep)
			}
		})
	}
}

// TestSeveralServers: members of one organization are at all of them.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	first := startStub(t, addr, nil)
	second := startStub(t, addr, func(s *stub) { s.prefix, s.keys = first.prefix, first.keys })
	opts := first.options()
	opts.URL += "," + second.options().URL
	rep := runLongEnough(t, bench.Run, opts, func(rep bench.Report) bool { return rep.Deliveries > 0 })
	if rep.ExitCode() != bench.ExitOK || rep.Deliveries == 0 {
		t.Errorf("got %+v, want deliveries without faults", rep)
	}
	for i, s := range []*stub{first, second} {
		s.delivering.Lock()
		deliveries := s.deliveries
		s.delivering.Unlock()
		if deliveries == 0 {
			t.Errorf("server %d delivered nothing", i+1)
		}
	}
}

// TestSumOf: several processes count together.
func TestSumOf(t *testing.T) {
	t.Parallel()
	sum, err := bench.SumOf([]int{1, 20, 300}, func(pid int) (int64, error) { return int64(pid), nil })
	if sum != 321 || err != nil {
		t.Errorf("got %d, %v, want 321", sum, err)
	}
	if _, err := bench.SumOf([]int{os.Getpid(), 1 << 30}, bench.RSSOf); err == nil {
		t.Error("a process that does not exist: got no error")
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*bench.Options){
		"at a rate":           func(o *bench.Options) { o.Rate = 500 },
		"many in flight":      func(o *bench.Options) { o.InFlight = 16 },
		"with churn":          func(o *bench.Options) { o.Rate, o.Churn = 500, 200 },
		"storm":               func(o *bench.Options) { o.Storm = true },
		"over TLS":            func(o *bench.Options) { o.URL, o.InFlight, o.Churn = "wss://127.0.0.1/", 16, 100 },
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
