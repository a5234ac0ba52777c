//go:build !linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"
)

// errSystem is returned where there is no epoll. Measurements elsewhere would mean little anyway.
var errSystem = fmt.Errorf("bench: Linux only: %w", errors.ErrUnsupported)

const (
	limitServer      = "limit-server"
	subscriberServer = "subscriber-server"
)

// Run makes the load that opts describe against a gateway and reports what it saw: on Linux.
func Run(context.Context, Options, io.Writer) (Report, error) { return Report{}, errSystem }

// Limit measures what the machine itself allows: on Linux.
func Limit(context.Context, Options, io.Writer) (Report, error) { return Report{}, errSystem }

// Subscriber measures the way through Redis: on Linux.
func Subscriber(context.Context, Options, io.Writer) (Report, error) { return Report{}, errSystem }

func serveLimit(context.Context, string, io.Reader, io.Writer) error { return errSystem }

func serveSubscriber(context.Context, string, io.Reader, io.Writer) error { return errSystem }

func isTerminal(any) bool { return false }

type secure struct{}

type server struct {
	url    *url.URL
	origin string
}

type sleeper struct{}

func newSleeper() (*sleeper, error) { return nil, errSystem }

func (*sleeper) sleep(time.Duration) error { return errSystem }

func (*sleeper) close() error { return nil }
