package outage

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"go.uber.org/zap/zapcore"
)

// Fold leaves warnings about lost connections out of a log while Redis is away on purpose, and
// counts them: each part of the gateway has its own connection and logs its own warning, often again
// and again. Entries with any other cause pass. The zero Fold is ready, and its methods are safe for
// concurrent use.
type Fold struct {
	mu    sync.Mutex
	on    bool
	count int
}

// begin leaves warnings out from now on.
func (f *Fold) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.count = true, 0
}

// end lets warnings pass again, and returns how many were left out.
func (f *Fold) end() (count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = false
	return f.count
}

// takes reports whether an entry is left out.
func (f *Fold) takes(e zapcore.Entry, fields []zapcore.Field) bool {
	if e.Level > zapcore.WarnLevel || !lostConnection(fields) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on {
		f.count++
	}
	return f.on
}

// lostConnection reports whether an error among the fields says that there is no connection, or no
// answer.
func lostConnection(fields []zapcore.Field) bool {
	for i := range fields {
		err, ok := fields[i].Interface.(error)
		if !ok {
			continue
		}
		var failure net.Error
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) ||
			errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE) || errors.As(err, &failure) && failure.Timeout() {
			return true
		}
	}
	return false
}

// Core returns a core that writes to inner what f does not leave out.
func (f *Fold) Core(inner zapcore.Core) zapcore.Core { return &foldedCore{inner, f} }

// foldedCore is the core of a Fold.
type foldedCore struct {
	zapcore.Core

	fold *Fold
}

// With implements [zapcore.Core].
func (c *foldedCore) With(fields []zapcore.Field) zapcore.Core {
	return &foldedCore{c.Core.With(fields), c.fold}
}

// Check implements [zapcore.Core].
func (c *foldedCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements [zapcore.Core].
func (c *foldedCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if c.fold.takes(e, fields) {
		return nil
	}
	return c.Core.Write(e, fields)
}
