package outage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/demo/outage"
	"orgcast/internal/testkit"
)

// TestOutageIsToldInTwoLines: warnings about lost connections are left out while Redis is away, and
// until events flow again. One line says that Redis is away and one that it is back, with what
// happened. Warnings with another cause, errors, and everything afterwards are logged as ever.
func TestOutageIsToldInTwoLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged, told testkit.SyncBuffer
		fold := new(outage.Fold)
		encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
		log := zap.New(fold.Core(zapcore.NewCore(encoder, zapcore.AddSync(&logged), zapcore.DebugLevel))).With(zap.String("kind", "chat"))
		lost := []error{
			io.EOF, fmt.Errorf("receive: %w", io.EOF), net.ErrClosed, context.DeadlineExceeded, os.ErrDeadlineExceeded,
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, &net.OpError{Op: "read", Err: syscall.ECONNRESET},
		}
		warn := func(name string) {
			for _, err := range lost {
				log.Warn(name, zap.Error(err))
			}
		}
		started := time.Now()
		w := &world{fold: fold, out: &told, healthy: func() error {
			if time.Since(started) < 8*time.Second {
				return errors.New("no canary")
			}
			return nil
		}}
		o := w.open(t)
		warn("before")
		if err := o.Start(authors(t), 5); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		warn("lost")
		log.Warn("another cause", zap.Error(errors.New("NOPERM")))
		log.Warn("no cause")
		log.Error("an error", zap.Error(io.EOF))
		time.Sleep(6 * time.Second)
		warn("late")
		if got := strings.Count(told.String(), "\n"); got != 1 || !strings.Contains(told.String(), "Redis is unreachable for 5 s") {
			t.Errorf("while events do not flow: got %q, want a line that Redis is unreachable", told.String())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		warn("after")
		if got := told.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "Redis is back after 8.0 s") ||
			!strings.Contains(got, "The 10 events that waited are published") || !strings.Contains(got, "14 warnings about lost connections") {
			t.Errorf("got %q, want a second line with 10 events and 14 warnings", got)
		}
		for name, want := range map[string]int{"before": len(lost), "lost": 0, "another cause": 1, "no cause": 1, "an error": 1, "late": 0, "after": len(lost)} {
			if got := bytes.Count([]byte(logged.String()), []byte(`"msg":"`+name+`","kind":"chat"`)); got != want {
				t.Errorf("%s: logged %d times, want %d", name, got, want)
			}
		}
	})
}

// TestOutageThatLastsIsTold: if events do not flow again, or cannot be published, the line says so,
// and warnings are logged again.
func TestOutageThatLastsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told testkit.SyncBuffer
		w := &world{broken: true, out: &told, healthy: func() error { return errors.New("no canary arrived in time") }}
		o := w.open(t)
		if err := o.Start(authors(t), 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := told.String(); !strings.Contains(got, "Redis is still unreachable") || !strings.Contains(got, "no canary arrived in time") ||
			!strings.Contains(got, "10 events could not be published") || strings.Contains(got, "is back") {
			t.Errorf("got %q, want that Redis is still unreachable, and why", got)
		}
	})
}
