package testkit_test

import (
	"bufio"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/testkit"
)

// TestWithoutTimeout: a client that may wait forever is not held to the deadline of its handshake.
func TestWithoutTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testkit.Listen()
		var serving sync.WaitGroup
		serving.Go(func() {
			conn, err := network.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
			time.Sleep(2 * testkit.Patience) // of the bubble's clock
			_, _ = conn.Write([]byte{0x81, 2, 'h', 'i'})
		})
		c := testkit.Connect(t, network.Dial, testkit.Handshake{})
		c.Timeout = 0
		if got, err := c.Next(); got != "hi" || err != nil {
			t.Errorf("got %q, %v, want hi", got, err)
		}
		_ = c.Close()
		_ = network.Close()
		serving.Wait()
	})
}
