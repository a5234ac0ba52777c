package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/journal"
)

// Listen binds an address, so that a port chosen by the system is known before anything serves. Its
// errors name the setting.
func Listen(ctx context.Context, setting, address string) (net.Listener, error) {
	// Connections are pinged, and requests have deadlines. The kernel's own probes would add four
	// system calls to each connection.
	config := net.ListenConfig{KeepAlive: -1}
	l, err := config.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %w (try %s %s)", setting, err, setting, nextPort(address))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return l, nil
}

// port is a bound address, and the server on it, if any. Its undo closes both.
type port struct {
	net.Listener

	server *http.Server
}

// bind is [Listen] with an undo.
func bind(ctx context.Context, setting, address string, undo *stack) (*port, error) {
	l, err := Listen(ctx, setting, address)
	if err != nil {
		return nil, err
	}
	p := &port{Listener: l}
	undo.add(setting, undoTimeout, func(context.Context) error {
		if p.server != nil {
			return p.server.Close()
		}
		return p.Listener.Close()
	})
	return p, nil
}

// Served returns the error with which a listener ended, or nil if it was closed on purpose.
func Served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// nextPort returns the address with the next port, to suggest it if the port is taken.
func nextPort(address string) string {
	host, port, _ := net.SplitHostPort(address) // it was parsed before
	n, err := strconv.Atoi(port)
	if err != nil || n >= 65535 {
		n = 8080
	}
	return net.JoinHostPort(host, strconv.Itoa(n+1))
}

const (
	// readTimeout ends clients that send their request slowly or announce a body that never comes,
	// for which net/http waits before it sends a refusal. It ends with the upgrade.
	readTimeout = 10 * time.Second
	// idleTimeout ends kept-alive connections between plain HTTP requests.
	idleTimeout = 60 * time.Second
	// maxHeader is far larger than a cookie and a handshake.
	maxHeader = 32 << 10
)

// NewHTTPServer returns the server of a listener that is not for strangers: the private one, and
// the demo's. For the public one, see [gateway.Server.HTTPServer].
func NewHTTPServer(h http.Handler, log *zap.Logger) *http.Server {
	errorLog, err := zap.NewStdLogAt(log.Named("http").WithOptions(journal.FreeText()), zap.WarnLevel)
	if err != nil {
		errorLog = zap.NewStdLog(log) // the level is valid, so this does not happen
	}
	// HTTP/1.1 only: a browser that negotiated HTTP/2 could not open a WebSocket here.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: h, Protocols: &protocols, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: errorLog,
	}
}
