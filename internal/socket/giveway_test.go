package socket_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// TestGiveWay: a server that needs room closes what it still has. It closes no connection that Upgrade
// has taken, and Upgrade takes none that is closed: a Conn uses the descriptor, which may belong to
// somebody else's socket by then.
func TestGiveWay(t *testing.T) {
	for _, on := range []kind{onLent, onTLS} {
		for name, before := range map[string]bool{"before the upgrade": true, "after it": false} {
			t.Run(string(on)+" "+name, func(t *testing.T) {
				o := options()
				results := make(chan upgraded, 1) // one handshake
				dial := serveWith(t, on, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if before {
						socket.GiveWay(accepted(r))
					}
					c, err := socket.Upgrade(w, r, &o)
					if c != nil && c.Direct() == before {
						t.Errorf("uses the descriptor: got %t", before)
					}
					if err == nil {
						err = c.Begin()
					}
					if !before {
						socket.GiveWay(accepted(r))
					}
					results <- upgraded{c, err}
				}))
				client, err := dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = client.Close() })
				if _, err := client.Write(testkit.Handshake{}.Bytes()); err != nil {
					t.Fatal(err)
				}
				got := <-results
				if (got.err != nil) != before {
					t.Fatalf("upgrade: got %v", got.err)
				}
				if before {
					return
				}
				t.Cleanup(func() { _ = got.conn.Close() })
				if err := got.conn.Write(frames(1)); err != nil {
					t.Errorf("write: %v", err)
				}
				_ = client.SetDeadline(time.Now().Add(testkit.Patience))
				r := bufio.NewReader(client)
				if _, err := http.ReadResponse(r, nil); err != nil {
					t.Fatal(err)
				}
				frame := make([]byte, len(frames(1)))
				if _, err := io.ReadFull(r, frame); err != nil || !bytes.Equal(frame, frames(1)) {
					t.Errorf("got %q, %v, want the frame", frame, err)
				}
			})
		}
	}
}
