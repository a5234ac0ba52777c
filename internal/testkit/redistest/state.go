package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// State is a state in which a server answers, accepts publications and delivers them, but refuses
// to write.
type State string

// The states of a server, named as the errors by which it refuses.
const (
	// OutOfMemory: maxmemory is reached, and the policy is noeviction. Commands that need no memory
	// still work.
	OutOfMemory State = "OOM"
	// SavingFailed: the last snapshot could not be written.
	SavingFailed State = "MISCONF"
	// ReadOnly: the server is a replica of a master that does not answer.
	ReadOnly State = "READONLY"
	// TooFewReplicas: min-replicas-to-write is not met.
	TooFewReplicas State = "NOREPLICAS"
	// Loading: the server is loading its snapshot, and also refuses to read data.
	Loading State = "LOADING"
)

// States returns all states.
func States() []State {
	return []State{OutOfMemory, SavingFailed, ReadOnly, TooFewReplicas, Loading}
}

// ReadsRefused reports whether data cannot be read either.
func (s State) ReadsRefused() bool { return s == Loading }

// RefuseWrites brings the server into a state, and returns when it refuses to write. Connections
// stay open, and the state lasts until Heal.
func (s *Server) RefuseWrites(state State) {
	s.tb.Helper()
	switch state {
	case OutOfMemory:
		s.must("CONFIG", "SET", "maxmemory", "1")
	case SavingFailed:
		// Redis renames a finished snapshot into place, which fails if a non-empty folder is there.
		if err := os.MkdirAll(filepath.Join(s.dir, "dump.rdb", "in the way"), 0o700); err != nil {
			s.tb.Fatal(err)
		}
		s.must("CONFIG", "SET", "save", "3600 1000000") // without a rule for saving, Redis does not refuse writes
		ask(s.Addr, "BGSAVE")
	case ReadOnly:
		s.must("REPLICAOF", "127.0.0.1", "1")
	case TooFewReplicas:
		s.must("CONFIG", "SET", "min-replicas-to-write", "1")
	case Loading:
		s.load()
	default:
		s.tb.Fatalf("refuse writes: no state %q", state)
	}
	eventually(s.tb, fmt.Sprintf("writes are refused with %s", state), func() bool {
		return strings.HasPrefix(refusal(s.Addr), string(state))
	})
}

// Heal ends the state, with all data still there, and returns when the server accepts writes again.
func (s *Server) Heal() {
	s.tb.Helper()
	// CONFIG is answered in all states, and setting a value again does no harm.
	s.must("CONFIG", "SET", "key-load-delay", "0")
	eventually(s.tb, "the snapshot is read", func() bool {
		return strings.Contains(ask(s.Addr, "INFO", "persistence"), "\nloading:0")
	})
	s.must("CONFIG", "SET", "maxmemory", "0")
	s.must("CONFIG", "SET", "save", "")
	s.must("CONFIG", "SET", "min-replicas-to-write", "0")
	s.must("REPLICAOF", "NO", "ONE")
	eventually(s.tb, "writes are accepted", func() bool { return refusal(s.Addr) == "" })
}

// load makes the server load its data again, slowly: one key in 20 ms. In between, it serves
// clients. There are enough keys for many minutes.
func (s *Server) load() {
	s.tb.Helper()
	const filler, bytes = 30_000, 1100 // more than the least that is read between two looks
	s.must("DEBUG", "POPULATE", filler, "redistest:filler", bytes)
	s.must("CONFIG", "SET", "rdbcompression", "no")
	s.must("CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
	s.must("CONFIG", "SET", "key-load-delay", "20000")
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(s.Addr, "DEBUG", "RELOAD") // the client gives up before the server does
	}()
	s.tb.Cleanup(func() { <-done })
}

// probe is a key that nothing else uses.
const probe = "redistest:probe"

// refusal returns the error by which a server refuses to write, "" if it does not.
func refusal(addr string) string {
	c := newClient(addr)
	defer c.Close() //nolint:errcheck // nothing left to lose
	ctx, cancel := patience()
	defer cancel()
	if err := c.Set(ctx, probe, "", 0).Err(); err != nil {
		return err.Error()
	}
	if err := c.Del(ctx, probe).Err(); err != nil {
		return err.Error()
	}
	return ""
}

// must sends a command whose answer is OK.
func (s *Server) must(command ...any) {
	s.tb.Helper()
	if got := ask(s.Addr, command...); got != "OK" {
		s.tb.Fatalf("%v at %s: got %q, want OK", command, s.Addr, got)
	}
}
