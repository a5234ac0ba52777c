package gateway_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/gateway"
	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// fakeTransport is a browser without a socket. What it sends is put into in; outcome says what becomes of each
// write that does not wait.
type fakeTransport struct {
	gateway.Transport // nil: what is not named below must not be called

	in      chan string
	leave   chan struct{} // the browser sends a close frame
	outcome func() socket.Outcome
	next    string // owned by the reader

	mu   sync.Mutex
	got  []byte
	rest []byte
	said bool // the close frame is among them
	// ends is when the connection does: Expire was called.
	ends   chan struct{}
	expire sync.Once
}

func newFakeTransport(outcome func() socket.Outcome) *fakeTransport {
	return &fakeTransport{in: make(chan string), leave: make(chan struct{}), ends: make(chan struct{}), outcome: outcome}
}

// fakeHandshake returns the request of a browser that asks for a WebSocket.
func (n *node) fakeHandshake(path string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		"Origin": {origin}, "Cookie": {n.cookie("ada", "acme")},
	}
	return r
}

func (f *fakeTransport) Await() {
	select {
	case f.next = <-f.in:
	case <-f.leave:
	case <-f.ends:
	}
}

func (f *fakeTransport) Next(b socket.Budget) (socket.Message, error) {
	if f.next != "" {
		data := []byte(f.next)
		f.next = ""
		return socket.Message{Data: data}, b.Take(socket.Held(data))
	}
	select {
	case <-f.leave:
		return socket.Message{}, socket.ClosedError{Code: 4321}
	case <-f.ends:
		return socket.Message{}, socket.ErrGone
	default:
		return socket.Message{}, socket.ErrIdle
	}
}

func (f *fakeTransport) Idle() bool   { return false }
func (f *fakeTransport) Begin() error { return nil }

func (f *fakeTransport) TryWrite(frames []byte, how socket.How) (socket.Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rest) > 0 {
		panic("TryWrite before Finish")
	}
	outcome := f.outcome()
	switch outcome {
	case socket.SentAll:
		f.got = append(f.got, frames...)
	case socket.SentPart:
		f.got = append(f.got, frames[:1]...)
		f.rest = append(f.rest, frames[1:]...)
	case socket.SentNone:
	}
	f.said = f.said || how&socket.Last != 0 && outcome != socket.SentNone
	if how&socket.Reused != 0 {
		clear(frames) // as the next user of the bytes would
	}
	return outcome, nil
}

func (f *fakeTransport) Finish() error { return f.Write(nil) }

func (f *fakeTransport) Write(frames []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(append(f.got, f.rest...), frames...)
	f.rest = nil
	return nil
}

func (f *fakeTransport) WriteClose(frame []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.said {
		f.got, f.said = append(append(f.got, f.rest...), frame...), true
		f.rest = nil
	}
	return nil
}

func (f *fakeTransport) Expire(time.Duration) { f.expire.Do(func() { close(f.ends) }) }

func (f *fakeTransport) Heard() time.Time              { return time.Now() }
func (f *fakeTransport) Unfinished() (time.Time, bool) { return time.Time{}, false }
func (f *fakeTransport) Direct() bool                  { return true }
func (f *fakeTransport) Compressed() bool              { return false }
func (f *fakeTransport) Close() error                  { return nil }

// payloads returns what the browser has seen: its frames have headers of two or four bytes.
func (f *fakeTransport) payloads() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for b := f.got; len(b) > 1; {
		head, length := 2, int(b[1])
		if length == 126 && len(b) >= 4 {
			head, length = 4, int(binary.BigEndian.Uint16(b[2:]))
		}
		if len(b) < head+length {
			break // under way
		}
		payload := string(b[head : head+length])
		if b[0] == 0x80|testkit.OpClose {
			payload = fmt.Sprintf("close %d", binary.BigEndian.Uint16([]byte(payload)))
		}
		list, b = append(list, payload), b[head+length:]
	}
	return list
}

// TestEveryOutcomeOfAWrite: whatever a socket takes at once of each write, a browser sees every event once and
// in order, and the close frame behind them. There is no socket in this test.
func TestEveryOutcomeOfAWrite(t *testing.T) {
	const events = 300
	for name, outcomes := range map[string][]socket.Outcome{
		"all":      {socket.SentAll},
		"none":     {socket.SentNone},
		"a part":   {socket.SentPart},
		"anything": {socket.SentAll, socket.SentNone, socket.SentPart},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, setup{})
			f := newFakeTransport(func() socket.Outcome { return outcomes[rand.IntN(len(outcomes))] })
			n.gateway.UpgradeTo(f)
			n.gateway.ServeHTTP(httptest.NewRecorder(), n.fakeHandshake("/ws/events"))
			f.in <- `{"type":"subscribe","group":"all"}`
			want := []string{`{"type":"subscribed","group":"all"}`}
			testkit.Eventually(t, "the answer", func() bool { return len(f.payloads()) == len(want) })
			for i := range events {
				want = append(want, n.publish("acme", "all", strings.Repeat("x", i)))
			}
			testkit.Eventually(t, "all events", func() bool { return len(f.payloads()) == len(want) })
			close(f.leave)
			n.expectMetric(0, "orgcast_connections")
			want = append(want, "close 4321")
			if diff := cmp.Diff(want, f.payloads()); diff != "" {
				t.Errorf("what the browser has seen (-want +got):\n%s", diff)
			}
		})
	}
}
