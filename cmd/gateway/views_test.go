package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// operator runs a subcommand that asks the gateway, and returns what it prints.
func (s *serving) operator(args ...string) string {
	s.tb.Helper()
	out, errOut, err := execute(s.tb, s.operatorEnv(), "", args...)
	if err != nil {
		s.tb.Fatalf("%v: %v\n%s", args, err, errOut)
	}
	return out
}

// operatorEnv is the environment of an operator of the gateway.
func (s *serving) operatorEnv() environment {
	return environment{"ORGCAST_ADMIN": "http://" + s.private, "ORGCAST_ADMIN_KEY": s.env["ORGCAST_ADMIN_KEY"]}
}

// cells returns the cells of the rows of a table, without its head.
func cells(table string) (rows [][]string) {
	for line := range strings.Lines(table) {
		rows = append(rows, regexp.MustCompile(`\s{2,}`).Split(strings.TrimSpace(line), -1))
	}
	return rows[1:]
}

// TestConnectionsCommand: the table has every connection, and those that were asked for.
func TestConnectionsCommand(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_ADMIN_KEY": strings.Repeat("k", 32)})
	s.expectReady()
	for _, user := range []string{"ada", "alan", "ada"} {
		s.subscribe(testkit.DialTCP(s.public), user, "acme")
	}
	s.subscribe(testkit.DialTCP(s.public), "grace", "globex")
	for args, want := range map[string]string{
		"":                                "acme ada, acme ada, acme alan, globex grace",
		"acme":                            "acme ada, acme ada, acme alan",
		"--user ada":                      "acme ada, acme ada",
		"globex --group all":              "globex grace",
		"globex --group none":             "",
		"--sort lag_seconds --limit 1000": "acme ada, acme ada, acme alan, globex grace",
	} {
		var got []string
		for _, row := range cells(s.operator(append([]string{"connections"}, strings.Fields(args)...)...)) {
			got = append(got, row[1]+" "+row[2])
		}
		if sorted := strings.Join(slices.Sorted(slices.Values(got)), ", "); sorted != want {
			t.Errorf("connections %s: got %q, want %q", args, sorted, want)
		}
	}
	if out := s.operator("connections", "--limit", "2"); !strings.Contains(out, "There are more; see --limit.") || len(cells(out)) != 4 {
		t.Errorf("--limit 2: got\n%s", out)
	}
	var all struct {
		Complete    bool
		Connections []struct {
			UserID string `json:"user_id"`
		}
	}
	if err := json.Unmarshal([]byte(s.operator("connections", "globex", "--json")), &all); err != nil || !all.Complete || len(all.Connections) != 1 || all.Connections[0].UserID != "grace" {
		t.Errorf("--json: got %+v, %v", all, err)
	}
	if got := s.operator("connections", "initech", "--json"); !strings.Contains(got, `"connections":[]`) {
		t.Errorf("none: got %s", got)
	}
	for _, args := range [][]string{{"connections", "a", "b"}, {"connections", "a b"}, {"connections", "--sort", "name"}, {"usage", "a", "b"}, {"usage", "--since", "yesterday"}, {"top", "acme"}, {"top", "--sort", "name"}} {
		if _, _, err := execute(t, s.operatorEnv(), "", args...); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
	for _, command := range []string{"connections", "usage", "top"} {
		if _, errOut, err := execute(t, environment{"ORGCAST_ADMIN": "http://" + s.private}, "", command); err == nil || !strings.Contains(errOut+err.Error(), "unauthenticated") {
			t.Errorf("%s without the key: got %v %s", command, err, errOut)
		}
	}
}

// TestUsageCommand: hours of an organization, and sums of all.
func TestUsageCommand(t *testing.T) {
	addr := redistest.Start(t)
	s := startServe(t, addr, nil)
	hour := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	client := redistest.NewClient(t, addr)
	for i, fields := range []map[string]string{
		{"acme:n1": "5 100 1000 20", "acme:n2": "3 50 500 1500", "globex:n1": "1 200 2048 0", ":n1": "1 1 10 0"},
		{"acme:n1": "2 7 70 0"},
	} {
		if err := client.HSet(t.Context(), "orgcast:usage:"+hour.Add(time.Duration(i)*time.Hour).Format("2006010215"), fields).Err(); err != nil {
			t.Fatal(err)
		}
	}
	show := func(args ...string) (lines string) {
		for _, row := range cells(s.operator(append([]string{"usage"}, args...)...)) {
			lines += strings.Join(row, " ") + "\n"
		}
		return lines
	}
	first, second := hour.Format("2006-01-02 15:04"), hour.Add(time.Hour).Format("2006-01-02 15:04")
	if got, want := show("acme"), first+" 8 150 1.5 KiB 1.5s\n"+second+" 2 7 70 B -\nall 8 157 1.5 KiB 1.5s\n"; got != want {
		t.Errorf("hours: got\n%swant\n%s", got, want)
	}
	if got, want := show(), "globex 1 200 2.0 KiB -\nacme 8 157 1.5 KiB 1.5s\n(none) 1 1 10 B -\nall - 358 3.5 KiB 1.5s\n"; got != want {
		t.Errorf("sums: got\n%swant\n%s", got, want)
	}
	if got, want := show("acme", "--since", hour.Format(time.RFC3339), "--until", hour.Add(time.Hour).Format(time.RFC3339)), first+" 8 150 1.5 KiB 1.5s\nall 8 150 1.5 KiB 1.5s\n"; got != want {
		t.Errorf("one hour: got\n%swant\n%s", got, want)
	}
	old := hour.Add(-70 * 24 * time.Hour)
	if err := client.HSet(t.Context(), "orgcast:usage:"+old.Format("2006010215"), "acme:n1", "9 1 1 0").Err(); err != nil {
		t.Fatal(err)
	}
	if got, want := show("acme", "--since", "2160h"), old.Format("2006-01-02 15:04")+" 9 1 1 B -\n"+first+" 8 150 1.5 KiB 1.5s\n"+second+" 2 7 70 B -\nall 9 158 1.5 KiB 1.5s\n"; got != want {
		t.Errorf("90 days: got\n%swant\n%s", got, want)
	}
	if got := s.operator("usage", "globex", "--json"); !strings.Contains(got, `"deliveries":200,"delivered_bytes":2048`) {
		t.Errorf("--json: got %s", got)
	}
}

// TestTopWithoutATerminal: one table, the largest first.
func TestTopWithoutATerminal(t *testing.T) {
	s := startServe(t, redistest.Start(t), nil)
	s.expectReady()
	for _, org := range []string{"acme", "globex", "globex"} {
		s.subscribe(testkit.DialTCP(s.public), "ada", org)
	}
	out := s.operator("top")
	head, table, _ := strings.Cut(out, "\n\n")
	if !strings.Contains(head, "nodes 1 (ready 1)  connections 3  by connections") {
		t.Errorf("got %q", head)
	}
	var got []string
	for _, row := range cells(table) {
		got = append(got, row[0]+" "+row[2])
	}
	if text := strings.Join(got, ", "); text != "globex 2, acme 1" {
		t.Errorf("got %s, want globex 2, acme 1", text)
	}
	if len(cells(strings.SplitN(s.operator("top", "--limit", "1", "--sort", "lag_seconds"), "\n\n", 2)[1])) != 1 {
		t.Error("--limit 1: not one row")
	}
}

// TestTopOnATerminal: it redraws in place, keys change the order, and the terminal is given back as it
// was.
func TestTopOnATerminal(t *testing.T) {
	s := startServe(t, redistest.Start(t), nil)
	s.expectReady()
	s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	master, slave := openTerminal(t)
	before := attributes(t, slave)
	shown := new(testkit.SyncBuffer)
	go func() { // until the terminal is closed
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = shown.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	cmd := exec.Command(os.Args[0], "top", "--interval", "200ms")
	cmd.Env = append(os.Environ(), asGateway+"=1")
	for name, value := range s.operatorEnv() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	awaitShown := func(what string) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprintf("%q is shown", what), func() bool { return strings.Contains(shown.String(), what) })
	}
	awaitShown("by connections")
	testkit.Eventually(t, "it is drawn again, in place", func() bool { return strings.Count(shown.String(), "\x1b[HKeys: ") > 2 })
	for key, order := range map[string]string{"d": "deliveries_per_second", "b": "queued_bytes", "l": "lag_seconds"} {
		if _, err := master.WriteString(key); err != nil {
			t.Fatal(err)
		}
		awaitShown("by " + order)
	}
	s.cancel() // the gateway stops
	awaitShown("connection refused")
	if _, err := master.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("q: %v", err)
	}
	awaitShown("\x1b[?1049l")
	if after := attributes(t, slave); after != before {
		t.Errorf("the terminal: got %+v, want %+v", after, before)
	}
}

// openTerminal returns both ends of a terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { _ = master.Close() })
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func attributes(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	a, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *a
}
