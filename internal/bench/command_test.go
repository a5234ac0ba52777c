package bench_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"orgcast/internal/bench"
	"orgcast/internal/config"
	"orgcast/internal/testkit/redistest"
)

// command runs `gateway bench` with args against the stub of opts.
func command(t *testing.T, opts bench.Options, args ...string) (code int, stdout, stderr string, err error) {
	t.Helper()
	c, rest := bench.NewCommand(args)
	c.Options = opts
	set := config.New("bench", bench.Usage)
	c.Declare(set)
	if rest, err = set.Parse(rest, func(string) string { return "" }); err != nil || len(rest) > 0 {
		t.Fatalf("%q: %q remains, %v", args, rest, err)
	}
	var out, errOut bytes.Buffer
	code, err = c.Run(t.Context(), strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String(), err
}

func TestCompareWritesJSON(t *testing.T) {
	t.Parallel()
	s := startStub(t, redistest.Start(t), nil)
	code, stdout, stderr, err := command(t, s.options(),
		"compare", "--rounds", "2", "--json", "--duration", "1s", "--warmup", "0s", "--in-flight", "4")
	if err != nil || code != bench.ExitOK {
		t.Fatalf("got %d, %v, want %d; stderr:\n%s", code, err, bench.ExitOK, stderr)
	}
	var got bench.Comparison
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("standard output is not JSON: %v\n%s", err, stdout)
	}
	if len(got.Lefts) != 2 || len(got.Rights) != 2 || got.Right != "limit" || len(got.Figures) == 0 {
		t.Errorf("got %d and %d reports against %q, %d figures", len(got.Lefts), len(got.Rights), got.Right, len(got.Figures))
	}
	if !strings.Contains(stderr, "medians of 2 interleaved rounds") {
		t.Errorf("standard error has no table:\n%s", stderr)
	}
}

func TestCompareAgainstSettings(t *testing.T) {
	t.Parallel()
	s := startStub(t, redistest.Start(t), nil)
	code, stdout, stderr, err := command(t, s.options(),
		"compare", "--rounds", "1", "--duration", "1s", "--against", "--payload 1000 --rate 100")
	if err != nil || code != bench.ExitOK || !strings.Contains(stdout, "--payload 1000 --rate 100") {
		t.Errorf("got %d, %v, stdout:\n%s\nstderr:\n%s", code, err, stdout, stderr)
	}
}

func TestCommandRefusesWrongUse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want string
	}{
		"wrong opponent":   {args: []string{"compare", "--against", "nginx"}, want: "must be limit, subscriber or settings"},
		"no opponent":      {args: []string{"compare", "--against", " "}, want: "must be limit, subscriber or settings"},
		"opponent's rate":  {args: []string{"compare", "--against", "--rate=-1 --speed 3"}, want: "--rate (from flag): must be at least 0"},
		"nothing to sign":  {args: []string{}, want: "session key"},
		"idle and a storm": {args: []string{"limit", "--idle", "--storm"}, want: "must not be set together"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, _, err := command(t, bench.DefaultOptions(), tt.args...)
			if code != bench.ExitFailed || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %d, %v, want %d and an error with %q", code, err, bench.ExitFailed, tt.want)
			}
		})
	}
}

// TestArrive: each part opens all connections; over TLS, those that should be resumed are.
func TestArrive(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			t.Parallel()
			s := startStub(t, addr, func(s *stub) { s.secure = secure })
			opts := s.options()
			opts.Insecure = true
			code, stdout, stderr, err := command(t, opts, "arrive", "--rounds", "2", "--json")
			if code != bench.ExitOK || err != nil {
				t.Fatalf("got %d, %v\n%s", code, err, stderr)
			}
			var got bench.Arrivals
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{false: 3, true: 6}[secure]; len(got.Parts) != want || got.Conns != opts.Conns {
				t.Fatalf("got %+v, want %d parts", got, want)
			}
			for _, part := range got.Parts {
				if (part.TLS != "") != secure || len(part.Reports) != 2 || part.Reports[1].OpenSeconds == 0 || part.Reports[1].ClientCPUPerArrival == 0 {
					t.Errorf("%d at once, TLS %q: got %+v", part.AtOnce, part.TLS, part.Reports)
				}
			}
			resumed := s.resumed.Load()
			if least := int64(6 * opts.Conns); secure && resumed < least || !secure && resumed > 0 {
				t.Errorf("resumed: got %d, want %d or more over TLS, else none", resumed, least)
			}
		})
	}
}

// TestRoundsBelongToCompare: a setting that would have no effect is a mistake.
func TestRoundsBelongToCompare(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--rounds", "3"}, {"limit", "--against", "limit"}, {"compare", "--rounds", "0"}} {
		c, rest := bench.NewCommand(args)
		set := config.New("bench", bench.Usage)
		c.Declare(set)
		if _, err := set.Parse(rest, func(string) string { return "" }); err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
}

// TestLoadIsNotConfigured: variables of the gateway, such as ORGCAST_COMPRESS, leave the load alone.
func TestLoadIsNotConfigured(t *testing.T) {
	t.Parallel()
	c, _ := bench.NewCommand(nil)
	set := config.New("bench", bench.Usage)
	c.Declare(set)
	if _, err := set.Parse(nil, func(string) string { return "true" }); err != nil || c.Compress {
		t.Errorf("got %v, compress %v, want neither", err, c.Compress)
	}
}

func TestHelpIsDocumentation(t *testing.T) {
	t.Parallel()
	c, rest := bench.NewCommand([]string{"compare", "--help"})
	set := config.New("bench", bench.Usage)
	c.Declare(set)
	if _, err := set.Parse(rest, func(string) string { return "" }); !errors.Is(err, config.ErrHelp) {
		t.Errorf("got %v, want ErrHelp", err)
	}
	var help bytes.Buffer
	set.Help(&help)
	for _, want := range []string{"Examples:", "Exit codes:", "--in-flight", "--rounds", "bench compare"} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("help does not mention %q", want)
		}
	}
}
